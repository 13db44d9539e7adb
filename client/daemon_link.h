// One attachment to one daemon process: its channels, its session, and the calls in flight on it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/tenant_memory.h"
#include "grpcpp/client_context.h"
#include "kvtier/v1/kv_cache.grpc.pb.h"

namespace kvtier {

// Thread-safe. Ends for good with MarkLost(): what is in flight is cancelled then, and every later
// call fails at once with the same reason.
class DaemonLink : public std::enable_shared_from_this<DaemonLink> {
 public:
  // What the daemon said when it was attached to.
  struct Session {
    uint64_t id = 0;
    uint64_t daemon_epoch = 0;
    absl::Duration heartbeat_interval;
    std::string tenant;
    std::string tenant_salt;
    uint64_t message_bytes_max = 0;
    std::string shared_memory_socket;  // empty: none is offered
    bool takes_logical_time = false;
  };

  // Opens two connections: one for bulk streams, so that they do not delay the others' small
  // messages. Errors: see ConnectDaemonChannel.
  static absl::StatusOr<std::shared_ptr<DaemonLink>> Connect(const std::string& socket);

  // Opens the session; call once, before anything else. FAILED_PRECONDITION names both versions
  // when the daemon speaks another major version.
  absl::Status Attach(const std::string& client_name, absl::Duration timeout);
  const Session& session() const { return session_; }

  // The memory shared with this daemon; null: none is. Set once, before the link is handed out.
  void set_memory(std::shared_ptr<TenantMemory> memory) ABSL_LOCKS_EXCLUDED(mutex_);
  const std::shared_ptr<TenantMemory>& memory() const { return memory_; }

  kvtier::v1::KvCache::Stub& control() { return *control_; }
  kvtier::v1::KvCache::Stub& bulk() { return *bulk_; }

  // One call in flight. Cancelled by MarkLost().
  class Call {
   public:
    Call(std::shared_ptr<DaemonLink> link, absl::Duration timeout);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    grpc::ClientContext* context() { return &context_; }
    // What the caller should see of how the call ended: the reason of MarkLost() where that
    // cancelled it.
    absl::Status Finish(const grpc::Status& status);

   private:
    std::shared_ptr<DaemonLink> link_;
    grpc::ClientContext context_;
  };

  // Something arrived from the daemon just now.
  void NoteSignOfLife();
  // Time since then.
  absl::Duration silence() const;

  // Asks whether the daemon still answers; OK also while it drains. NOT_FOUND: it has ended the
  // session.
  absl::Status Heartbeat(absl::Duration timeout) { return HeartbeatOver(*control_, timeout); }
  // The same over the connection for bulk streams, which can be lost on its own.
  absl::Status HeartbeatOverBulk(absl::Duration timeout) { return HeartbeatOver(*bulk_, timeout); }
  // Ends the session. The answer, if any comes in time, makes no difference.
  void Detach(absl::Duration timeout);

  void MarkLost(absl::Status reason) ABSL_LOCKS_EXCLUDED(mutex_);
  // OK while the link is usable.
  absl::Status lost() const ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string& socket() const { return socket_; }

 private:
  DaemonLink() = default;
  absl::Status HeartbeatOver(kvtier::v1::KvCache::Stub& stub, absl::Duration timeout);

  std::string socket_;
  std::unique_ptr<kvtier::v1::KvCache::Stub> control_;
  std::unique_ptr<kvtier::v1::KvCache::Stub> bulk_;
  Session session_;
  std::shared_ptr<TenantMemory> memory_;
  std::atomic<int64_t> last_sign_of_life_ns_{0};

  mutable absl::Mutex mutex_;
  absl::Status lost_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<grpc::ClientContext*> in_flight_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvtier
