// The KvCache service of one tenant: translates calls to the engine and back.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <shared_mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/byte_streams.h"
#include "daemon/proto_convert.h"
#include "daemon/service_context.h"
#include "kvtier/v1/kv_cache.grpc.pb.h"

namespace kvtier {

// Thread-safe: gRPC calls it from many threads. Bytes are copied, hashed and verified outside the
// engine's lock, inside sections; no section is open while a call waits for its client.
class KvCacheService final : public v1::KvCache::Service {
 public:
  // `tenant.daemon` outlives the service.
  explicit KvCacheService(TenantContext tenant);

  grpc::Status Attach(grpc::ServerContext*, const v1::AttachRequest* request,
                      v1::AttachReply* reply) override;
  grpc::Status Heartbeat(grpc::ServerContext*, const v1::HeartbeatRequest* request,
                         v1::HeartbeatReply* reply) override;
  grpc::Status Detach(grpc::ServerContext*, const v1::DetachRequest* request,
                      v1::DetachReply*) override;
  grpc::Status RegisterModel(grpc::ServerContext*, const v1::RegisterModelRequest* request,
                             v1::RegisterModelReply* reply) override;

  grpc::Status Reserve(grpc::ServerContext*, const v1::ReserveRequest* request,
                       v1::ReserveReply* reply) override;
  grpc::Status Store(grpc::ServerContext* context, grpc::ServerReader<v1::StoreRequest>* reader,
                     v1::StoreReply* reply) override;
  grpc::Status Commit(grpc::ServerContext*, const v1::CommitRequest* request,
                      v1::CommitReply* reply) override;
  grpc::Status Abort(grpc::ServerContext*, const v1::AbortRequest* request,
                     v1::AbortReply*) override;

  grpc::Status Lookup(grpc::ServerContext*, const v1::LookupRequest* request,
                      v1::LookupReply* reply) override;
  grpc::Status Renew(grpc::ServerContext*, const v1::RenewRequest* request,
                     v1::RenewReply* reply) override;
  grpc::Status Release(grpc::ServerContext*, const v1::ReleaseRequest* request,
                       v1::ReleaseReply* reply) override;
  grpc::Status Fetch(grpc::ServerContext* context, const v1::FetchRequest* request,
                     grpc::ServerWriter<v1::FetchReply>* writer) override;

  grpc::Status CheckBlock(grpc::ServerContext*, const v1::CheckBlockRequest* request,
                          v1::CheckBlockReply* reply) override;

  grpc::Status Report(grpc::ServerContext*, const v1::ReportRequest* request,
                      v1::ReportReply*) override;
  grpc::Status Prefetch(grpc::ServerContext*, const v1::PrefetchRequest* request,
                        v1::PrefetchReply* reply) override;
  grpc::Status Forget(grpc::ServerContext*, const v1::ForgetRequest* request,
                      v1::ForgetReply* reply) override;
  grpc::Status Watch(grpc::ServerContext* context, const v1::WatchRequest* request,
                     grpc::ServerWriter<v1::WatchReply>* writer) override;

 private:
  // Writers of a chunk share its lock, a commit holds it alone: what was verified is what is
  // published. Chunks that share a lock only wait for each other's copies.
  static constexpr size_t kChunkLocks = 64;

  EngineHost& host() const { return *tenant_.daemon->host; }
  const v1::LimitsConfig& limits() const { return tenant_.daemon->config->limits(); }
  Caller From(uint64_t session) const { return {tenant_.id, SessionId(session)}; }
  std::shared_mutex& ChunkLock(uint64_t reservation, uint32_t chunk) {
    return chunk_locks_[(reservation * 0x9e3779b97f4a7c15ull + chunk) % kChunkLocks];
  }

  // What a call says of its logical time; nothing where the configuration does not take it.
  absl::Status TakeLogicalTime(Engine& engine, Caller caller, uint64_t logical_time_us,
                               absl::Time now) const;
  absl::StatusOr<std::vector<wire::ChunkKey>> LookupKeys(Caller caller, ModelId model,
                                                         const v1::LookupRequest& request) const;
  absl::Status StorePiece(const v1::StoreRequest& request);
  absl::StatusOr<CommitOutcome> CommitChunk(Caller caller, ReservationId reservation,
                                            const ReservationInfo& info,
                                            const wire::KeyScope& scope,
                                            const v1::CommitChunk& chunk, wire::ChunkKey* key);
  absl::Status VerifyAndCommit(Caller caller, ReservationId reservation,
                               const ReservationInfo& info, const CommitArgs& args,
                               CommitOutcome* outcome);
  absl::Status CommitUnverified(Caller caller, ReservationId reservation, const CommitArgs& args,
                                CommitOutcome* outcome);
  absl::Status FetchChunk(grpc::ServerContext* context, Caller caller, LeaseId lease,
                          uint32_t chunk, const std::vector<PlaneIndex>& planes,
                          ByteStreams::Stream& stream, grpc::ServerWriter<v1::FetchReply>* writer);
  absl::Status SendEvents(grpc::ServerContext* context, const v1::WatchRequest& request,
                          grpc::ServerWriter<v1::WatchReply>* writer) const;

  const TenantContext tenant_;
  std::vector<std::string> pool_names_;
  std::array<std::shared_mutex, kChunkLocks> chunk_locks_;
  std::atomic<uint32_t> watch_streams_{0};
  ByteStreams byte_streams_;
};

}  // namespace kvtier
