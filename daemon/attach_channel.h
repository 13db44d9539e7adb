// One client's end of the attach socket: hands it the memory that it may map.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "daemon/attach_packet.h"
#include "daemon/drain_state.h"
#include "daemon/engine_host.h"
#include "daemon/process_watcher.h"
#include "proto/wire/residency_word.h"
#include "proto/wire/section_protocol.h"
#include "tiering/host/holder_watch.h"
#include "tiering/host/host_pool.h"
#include "tiering/host/owned_fd.h"
#include "tiering/host/shared_region.h"

namespace kvtier {

// What there is to hand out; everything outlives the channels.
struct SharedMemory {
  EngineHost* host = nullptr;
  const ProcessWatcher* watcher = nullptr;
  const DrainState* drain = nullptr;
  std::vector<HostPool*> pools;              // by PoolId
  std::vector<const SharedRegion*> indexes;  // by TenantId
  std::vector<std::string> tenants;          // names, by TenantId
  uint64_t daemon_epoch = 0;
  HolderWatch* pages = nullptr;  // of clients; null: nobody can tell how long they are kept
};

// Not thread-safe. Decides nothing: what a client may have, the engine says. The client's page
// stays mapped until the engine does not look at it any more, which is at End or after the engine.
class AttachChannel {
 public:
  struct Peer {
    TenantId tenant;
    pid_t pid = 0;
    OwnedFd process;  // readable once it ended
  };
  AttachChannel(const SharedMemory* memory, OwnedFd socket, Peer peer)
      : memory_(memory), socket_(std::move(socket)), peer_(std::move(peer)) {}

  // Serves at most one request. An error ends the channel, with what is to be logged.
  absl::Status Serve();
  // A request takes longer than others should wait: call Work, which does a slice of it, until it
  // does not any more.
  bool working() const { return grant_ && grant_->filled; }
  absl::Status Work();

  // It asks for what another channel of its process had attached. That one goes on with its socket,
  // and this one is gone; or nothing may, and it is told so.
  bool resumes() const { return !client_ && wants_to_resume_; }
  bool MayGoOnAs(const AttachChannel& asking) const;
  absl::Status GoOnAs(AttachChannel& asking);
  absl::Status RefuseToResume();
  // Closes the socket; mappings and sections go on.
  void Close();
  // The process of the client ended.
  void ProcessEnded() { life_.ProcessEnded(); }
  // The engine forgets the client, which is gone. The page is unmapped.
  void End();

  // Nothing will come of it any more: it is closed, and never got memory, or its process ended, or
  // said that it has unmapped all.
  bool gone() const { return client_ ? life_.gone() : !socket_.valid(); }
  bool attached() const { return client_.has_value(); }
  // The number in SharedMemory::pages of the page that the client was given, End or not; none: it
  // was not given any, or none is watched.
  std::optional<int> page_watch() const { return page_watch_; }
  TenantId tenant() const { return peer_.tenant; }
  pid_t pid() const { return peer_.pid; }
  int socket() const { return socket_.get(); }
  int process() const { return peer_.process.get(); }

 private:
  // A segment that the client was given for writing and has not said that it mapped.
  struct Grant {
    wire::ResidencyWord word;
    PoolId pool;
    OwnedFd fd;
    std::optional<Bytes> filled =
        std::nullopt;  // the client has mapped it, and it has memory up to here
  };

  absl::Status Hello(const wire::HelloRequest& request);
  absl::Status CheckHello(const wire::HelloRequest& request) const;
  absl::Status Admit(const wire::HelloRequest& request);
  absl::Status Segment(const wire::SegmentRequest& request);
  // One descriptor; the engine has agreed.
  absl::StatusOr<OwnedFd> Open(const SegmentGrant& granted, wire::ResidencyWord word);
  absl::Status Mapped(const wire::SegmentMapped& request);
  absl::Status MappedBefore(wire::ResidencyWord word);
  // The client did not map what it was given for writing: it may have it again.
  void ReturnGrant();

  const SharedMemory* const memory_;
  OwnedFd socket_;
  Peer peer_;
  std::unique_ptr<SharedRegion> page_;
  std::optional<int> page_watch_;
  std::optional<ShmClientId> client_;  // of the engine
  SessionId session_;                  // that it attached, or wants to go on with
  bool wants_to_resume_ = false;
  std::optional<Grant> grant_;
  bool resumed_ = false;
  wire::ReaderLife<> life_;
};

}  // namespace kvtier
