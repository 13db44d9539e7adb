// Knows which processes are connected, and tells when one ends or a connection closes.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "daemon/peer_process.h"
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
    // Of all tenants. Each has an even share, at least one, so that none keeps the others out.
    uint32_t connections_max = 1024;
    uint32_t tenants = 1;
    // Where there are several tenants these have kAdminConnections more than their share.
    std::vector<TenantId> admins = {};
    // Sessions that one process can be bound to; beyond, the oldest is forgotten and ends by
    // timeout only.
    uint32_t sessions_max = 1024;
    // Called on the watcher's thread, without its lock, when a process ended that sessions were
    // bound to.
    std::function<void(TenantId tenant, const std::vector<SessionId>& sessions)> on_process_end =
        {};
    // Whether a session goes on; null: each does until it is unbound. Called on the watcher's
    // thread, without its lock, about sessions of processes without a connection, so that a
    // process is not watched for one that timed out.
    std::function<bool(TenantId tenant, SessionId session)> session_known = {};
    std::chrono::milliseconds prune_interval{1000};
    PeerLookup peer_lookup = PeerLookup::kSocket;
  };
  static constexpr uint32_t kAdminConnections = 8;

  static absl::StatusOr<std::unique_ptr<ProcessWatcher>> Create(Options options);
  ~ProcessWatcher();

  // Counts the connection `fd` of process `pid` (0: unknown) until it closes. `fd` stays the
  // caller's. RESOURCE_EXHAUSTED at the tenant's limit, naming the field. A tenant has at most as
  // many watched processes as connections; beyond, sessions of a process end by timeout only.
  absl::Status AddConnection(TenantId tenant, pid_t pid, int fd);

  // Binds a session to the process if it is known, alive and of this tenant; returns whether it was
  // bound.
  bool BindSession(TenantId tenant, int64_t pid, SessionId session);
  void UnbindSession(TenantId tenant, SessionId session);
  // The process that the session is bound to; none: it is not bound.
  std::optional<pid_t> ProcessOf(TenantId tenant, SessionId session) const;

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
  struct TenantCounts {
    uint32_t connections = 0;
    uint32_t processes = 0;
  };
  struct Connection {
    int fd = -1;
    ProcessKey process;
    uint64_t process_token = 0;  // 0: the pid is unknown
  };

  explicit ProcessWatcher(Options options);
  void Run();
  void OnHangUp(uint64_t token);
  void OnProcessEnd(uint64_t token);
  // Unbinds sessions that ended by themselves from processes without a connection.
  void Prune();
  // How long Run may wait for events; -1: for ever.
  int WaitMs();
  uint32_t ConnectionsMax(TenantId tenant) const;
  absl::Status LimitError(TenantId tenant) const;
  void DropIfUnused(std::map<ProcessKey, Process>::iterator process)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(std::map<ProcessKey, Process>::iterator process)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  int epoll_fd_ = -1;
  int stop_fd_ = -1;

  mutable Mutex mutex_;
  // By token, which is never reused, so that an event that comes late finds nothing.
  absl::flat_hash_map<uint64_t, Connection> connections_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, ProcessKey> pidfds_ ABSL_GUARDED_BY(mutex_);
  std::map<ProcessKey, Process> processes_ ABSL_GUARDED_BY(mutex_);
  std::map<uint16_t, TenantCounts> counts_ ABSL_GUARDED_BY(mutex_);  // by tenant
  // Processes that are kept for their sessions alone.
  std::set<ProcessKey> unconnected_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_token_ ABSL_GUARDED_BY(mutex_) = 1;
  std::chrono::steady_clock::time_point prune_at_;  // of the thread
  std::thread thread_;
};

}  // namespace kvtier
