// Knows which processes are connected, and tells when one ends or a connection closes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "tiering/base/ids.h"
#include "tiering/base/mutex.h"

namespace kvtier {

// Thread-safe. Holds a second descriptor of each connection, whose hang-up tells that the peer or
// the server closed it, and a pidfd of each connected process, which becomes readable when the
// process ends, whatever its connections do. A process whose pid cannot be known (another pid
// namespace) is not watched.
class ProcessWatcher {
 public:
  struct Options {
    uint32_t connections_max = 1024;
    // Sessions that one process can be bound to; beyond, the oldest is forgotten and ends by
    // timeout only.
    uint32_t sessions_max = 1024;
    // Called on the watcher's thread, without its lock, when a process ended that sessions were
    // bound to.
    std::function<void(TenantId tenant, const std::vector<SessionId>& sessions)> on_process_end;
  };
  static absl::StatusOr<std::unique_ptr<ProcessWatcher>> Create(Options options);
  ~ProcessWatcher();

  // Counts the connection `fd` of process `pid` (0: unknown) until it closes. `fd` stays the
  // caller's. RESOURCE_EXHAUSTED at connections_max.
  absl::Status AddConnection(TenantId tenant, pid_t pid, int fd);

  // Binds a session to the process if it is known, alive and of this tenant; returns whether it was
  // bound.
  bool BindSession(TenantId tenant, int64_t pid, SessionId session);
  void UnbindSession(TenantId tenant, SessionId session);

  uint32_t connections() const;
  uint32_t processes() const;

 private:
  struct Process {
    uint64_t token = 0;  // tells it from an earlier process of the same pid
    int pidfd = -1;
    uint32_t connections = 0;
    std::deque<SessionId> sessions;
  };
  using ProcessKey = std::pair<uint16_t, pid_t>;  // tenant and pid
  struct Connection {
    int fd = -1;
    ProcessKey process;
    uint64_t process_token = 0;  // 0: the pid is unknown
  };

  explicit ProcessWatcher(Options options);
  void Run();
  void OnHangUp(uint64_t token);
  void OnProcessEnd(uint64_t token);
  void DropIfUnused(std::map<ProcessKey, Process>::iterator process)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  int epoll_fd_ = -1;
  int stop_fd_ = -1;

  mutable Mutex mutex_;
  // By token, which is never reused, so that an event that comes late finds nothing.
  absl::flat_hash_map<uint64_t, Connection> connections_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, ProcessKey> pidfds_ ABSL_GUARDED_BY(mutex_);
  std::map<ProcessKey, Process> processes_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_token_ ABSL_GUARDED_BY(mutex_) = 1;
  std::thread thread_;
};

}  // namespace kvtier
