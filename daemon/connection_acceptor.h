// Accepts connections, decides once whose they are, and hands them on.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/process_watcher.h"
#include "daemon/unix_listener.h"
#include "kvtier/v1/config.pb.h"
#include "tiering/base/ids.h"

namespace kvtier {

// Which tenant a user's processes belong to. Immutable, thread-safe.
class TenantByUid {
 public:
  // The i-th tenant of the configuration has TenantId i; no uid is listed twice (CheckConfig).
  explicit TenantByUid(const v1::Config& config);
  // None: no tenant, to be refused.
  std::optional<TenantId> Find(uid_t uid) const;
  const std::string& Name(TenantId tenant) const { return names_[tenant.value()]; }

 private:
  absl::flat_hash_map<uid_t, TenantId> tenants_;
  std::vector<std::string> names_;  // by TenantId
};

// One thread of its own; the counters may be read by any. Who is refused for a limit is told which;
// strangers are told nothing.
class ConnectionAcceptor {
 public:
  struct Options {
    std::unique_ptr<UnixListener> listener;
    TenantByUid tenants;
    ProcessWatcher* watcher = nullptr;  // outlives the acceptor
    // Takes over the descriptor of a connection. Called on the acceptor's thread.
    std::function<void(TenantId tenant, int fd)> hand_over;
  };
  static absl::StatusOr<std::unique_ptr<ConnectionAcceptor>> Create(Options options);
  // Stops accepting and removes the socket.
  ~ConnectionAcceptor();

  uint64_t accepted() const { return accepted_; }
  uint64_t refused_uid() const { return refused_uid_; }
  uint64_t refused_limit() const { return refused_limit_; }

 private:
  explicit ConnectionAcceptor(Options options);
  void Run();
  void Accept(int fd);
  // Whether a refusal may be logged now; somebody who keeps knocking must not fill the log.
  bool MayLog();

  Options options_;
  int stop_fd_ = -1;
  absl::Time logged_ = absl::InfinitePast();
  std::atomic<uint64_t> accepted_{0};
  std::atomic<uint64_t> refused_uid_{0};
  std::atomic<uint64_t> refused_limit_{0};
  std::thread thread_;
};

}  // namespace kvtier
