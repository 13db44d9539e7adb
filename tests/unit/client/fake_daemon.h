// A small KvCache service on a Unix socket in this process, to test the client library without a
// kvtierd. It keeps what is put into it and does what a test asks for: stop answering, corrupt
// bytes, speak another version, restart.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/server.h"
#include "grpcpp/server_context.h"
#include "kvtier/v1/kv_cache.grpc.pb.h"

namespace kvtier::testing {

// Thread-safe.
class FakeDaemon final : public v1::KvCache::Service {
 public:
  struct Behaviour {
    uint32_t version_major = 1;
    bool silent = false;    // calls are taken and not answered, as by a stopped process
    bool draining = false;  // Reserve is UNAVAILABLE
    bool flip_fetched_bit = false;
    bool forget_sessions = false;  // Heartbeat is NOT_FOUND until the next Attach
    uint64_t message_bytes_max = 1 << 20;
  };

  explicit FakeDaemon(std::string socket) : socket_(std::move(socket)) {}
  ~FakeDaemon() override { Stop(); }

  // Serves from now on, with nothing stored and a new epoch, salt and ids.
  void Start();
  // Closes the socket and every connection.
  void Stop();
  void set_behaviour(Behaviour behaviour) ABSL_LOCKS_EXCLUDED(mutex_);
  void Pause() { SetSilent(true); }

  int attached() const ABSL_LOCKS_EXCLUDED(mutex_);
  int registered_models() const ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t attach_pid() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Calls that wait because of `silent`.
  void AwaitSilentCalls(int count) ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t largest_piece_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Context = grpc::ServerContext;
  using BlockName = std::pair<uint32_t, uint32_t>;
  struct Chunk {
    std::map<uint32_t, std::string> planes;
    std::map<uint32_t, uint64_t> checksums;
  };
  struct Reservation {
    uint32_t chunk_count = 0;
    std::map<BlockName, std::string> blocks;
  };

  grpc::Status Attach(Context*, const v1::AttachRequest*, v1::AttachReply*) override;
  grpc::Status Heartbeat(Context*, const v1::HeartbeatRequest*, v1::HeartbeatReply*) override;
  grpc::Status Detach(Context*, const v1::DetachRequest*, v1::DetachReply*) override;
  grpc::Status RegisterModel(Context*, const v1::RegisterModelRequest*,
                             v1::RegisterModelReply*) override;
  grpc::Status Reserve(Context*, const v1::ReserveRequest*, v1::ReserveReply*) override;
  grpc::Status Store(Context*, grpc::ServerReader<v1::StoreRequest>*, v1::StoreReply*) override;
  grpc::Status Commit(Context*, const v1::CommitRequest*, v1::CommitReply*) override;
  grpc::Status Lookup(Context*, const v1::LookupRequest*, v1::LookupReply*) override;
  grpc::Status Release(Context*, const v1::ReleaseRequest*, v1::ReleaseReply*) override;
  grpc::Status Fetch(Context*, const v1::FetchRequest*,
                     grpc::ServerWriter<v1::FetchReply>*) override;
  grpc::Status Watch(Context*, const v1::WatchRequest*,
                     grpc::ServerWriter<v1::WatchReply>*) override;

  void SetSilent(bool silent) ABSL_LOCKS_EXCLUDED(mutex_);
  // Does not return while the fake is silent and running.
  void Enter() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string socket_;
  std::unique_ptr<grpc::Server> server_;

  mutable absl::Mutex mutex_;
  Behaviour behaviour_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  int silent_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;
  int attached_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t attach_pid_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t largest_piece_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<std::string, uint32_t> models_ ABSL_GUARDED_BY(mutex_);  // by serialised spec
  std::map<uint64_t, Reservation> reservations_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Chunk> chunks_ ABSL_GUARDED_BY(mutex_);  // by key
  std::map<uint64_t, std::vector<std::string>> leases_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvtier::testing
