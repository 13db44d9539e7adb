// The socket beside gRPC's on which processes of this machine get the memory that they share.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/attach_channel.h"
#include "daemon/connection_acceptor.h"
#include "daemon/unix_listener.h"

namespace kvtier {

// Where it is, by configuration.
std::string AttachSocketOf(const v1::Config& config);

// One thread serves all clients, each one request at a time, and a slice of a request at a time
// where it takes long; the counters may be read by any. A client counts until its socket is closed
// and its process has ended or said goodbye, and until nobody has its page any more; so pages
// outlive Stop: the object has to outlive the engine, or the engine may look at memory that is
// gone.
class AttachServer {
 public:
  struct Options {
    std::unique_ptr<UnixListener> listener;  // of SOCK_SEQPACKET
    TenantByUid tenants;
    uint32_t channels_max = 1024;  // of one tenant, until they are gone; beyond, they are closed
    SharedMemory memory;
    std::chrono::milliseconds hello_timeout{10'000};  // for who connects and says nothing
  };
  static absl::StatusOr<std::unique_ptr<AttachServer>> Create(Options options);
  ~AttachServer();

  // Closes the socket and every channel. What clients have mapped stays theirs, and their pages
  // stay mapped here.
  void Stop();

  uint64_t attached() const { return attached_; }
  uint64_t refused() const { return refused_; }

 private:
  explicit AttachServer(Options options);
  absl::Status Start();
  void Run();
  void Accept();
  void Serve(uint64_t id);
  // Gives the client that the channel asks for its socket, if there is one.
  absl::Status Resume(uint64_t id);
  // A slice of one request that takes long, of the channel that waits longest.
  void WorkOn();
  // Logs why a channel ends, and closes it.
  void Refuse(AttachChannel& channel, const absl::Status& why);
  void EndIfGone(uint64_t id);
  // Counts clients no longer whose pages nobody has.
  void ForgetEndedPages();
  void CloseSilent();
  int WaitMs() const;
  bool Watch(int fd, uint64_t token);
  // Whether a refusal may be logged now.
  bool MayLog();

  Options options_;
  OwnedFd epoll_;
  OwnedFd stop_;
  // Of the thread:
  absl::flat_hash_map<uint64_t, std::unique_ptr<AttachChannel>> channels_;  // never reused ids
  // By TenantId, with those of whom no more than a page is left, and the pages, by their watch.
  std::vector<uint32_t> channels_of_;
  std::optional<HolderWatch> pages_;
  absl::flat_hash_map<int, TenantId> kept_pages_;
  // Those that have not attached yet, and until when they may wait; later ones later.
  std::map<uint64_t, std::chrono::steady_clock::time_point> silent_;
  std::set<uint64_t> working_;
  uint64_t last_worked_ = 0;
  uint64_t next_id_ = 1;
  absl::Time logged_ = absl::InfinitePast();
  std::atomic<uint64_t> attached_{0};
  std::atomic<uint64_t> refused_{0};
  std::thread thread_;
};

}  // namespace kvtier
