#include "client/examples/daemon_kv_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tiering/base/status_macros.h"

namespace kvtier::examples {

absl::StatusOr<std::unique_ptr<DaemonKvStore>> DaemonKvStore::Create(const Options& options) {
  ClientOptions client_options;
  client_options.socket = options.socket;
  client_options.name = options.name;
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(client_options);
  if (absl::IsUnavailable(client.status())) client = Client::Create(client_options);
  if (!client.ok()) return client.status();
  return std::unique_ptr<DaemonKvStore>(new DaemonKvStore(options, *std::move(client)));
}

DaemonKvStore::DaemonKvStore(const Options& options, std::unique_ptr<Client> client)
    : options_(options), client_(std::move(client)) {}

absl::Status DaemonKvStore::EnsureModel() {
  if (model_.has_value()) return absl::OkStatus();
  const KvGeometry& kv = options_.geometry;
  ModelGeometry geometry;
  geometry.name = "decode_worker";
  geometry.revision = options_.fingerprint;
  geometry.data_type = KvTypeName(kv.type);
  // Token-major within a plane, rotated keys. Another arithmetic or order needs another name.
  geometry.layout_version = "token-head-dim.1";
  geometry.chunk_tokens = static_cast<uint32_t>(kv.chunk_tokens);
  for (size_t p = 0; p < kv.planes(); ++p) {
    PlaneGeometry plane;
    plane.name = kv.plane_name(p);
    plane.layer = static_cast<uint32_t>(p / 2);
    plane.bytes_per_chunk = kv.plane_bytes();
    geometry.planes.push_back(std::move(plane));
  }
  KVTIER_ASSIGN_OR_RETURN(model_, client_->RegisterModel(geometry));
  return absl::OkStatus();
}

absl::StatusOr<ChunkKey> DaemonKvStore::Key(const ChunkKey& parent,
                                            std::span<const uint32_t> tokens) {
  KVTIER_RETURN_IF_ERROR(EnsureModel());
  return model_->ChunkKey(parent, absl::MakeConstSpan(tokens.data(), tokens.size()));
}

absl::StatusOr<KvStore::Lease> DaemonKvStore::Acquire(const std::vector<ChunkKey>& keys) {
  KVTIER_RETURN_IF_ERROR(EnsureModel());
  LookupRequest request;
  request.model = *model_;
  request.keys = keys;
  KVTIER_ASSIGN_OR_RETURN(const Match match, client_->Lookup(std::move(request)));
  lease_ttl_ = match.lease_ttl;
  lease_renewed_ = absl::Now();
  return Lease{.id = match.lease, .chunks = match.chunks};
}

absl::StatusOr<FetchResult> DaemonKvStore::Fetch(const Lease& lease, KvTable& kv) {
  KVTIER_RETURN_IF_ERROR(EnsureModel());
  kv.Grow(lease.chunks * options_.geometry.chunk_tokens);
  GetRequest request;
  request.model = *model_;
  request.lease = lease.id;
  for (size_t c = 0; c < lease.chunks; ++c) {
    for (size_t p = 0; p < options_.geometry.planes(); ++p) {
      BlockDestination destination;
      destination.chunk = static_cast<uint32_t>(c);
      destination.plane = static_cast<uint32_t>(p);
      const std::span<std::byte> bytes = kv.writable_plane(c, p);
      destination.pieces.push_back({bytes.data(), bytes.size()});
      request.blocks.push_back(std::move(destination));
    }
  }
  KVTIER_ASSIGN_OR_RETURN(GetResult got, client_->Get(std::move(request)));
  FetchResult result;
  for (BlockResult& block : got.blocks) result.blocks.push_back(std::move(block.status));
  for (const auto& [pool, bytes] : got.bytes_by_pool) kv.NoteCopied(bytes);
  result.bytes_by_pool = std::move(got.bytes_by_pool);
  return result;
}

absl::Status DaemonKvStore::Report(const Lease& lease, const AttentionMass& mass, size_t steps) {
  // Well before the lease runs out, so that one late step does not lose it.
  if (absl::Now() - lease_renewed_ > lease_ttl_ / 3) {
    KVTIER_ASSIGN_OR_RETURN(lease_ttl_, client_->Renew(lease.id, lease_ttl_));
    lease_renewed_ = absl::Now();
  }
  std::vector<ReadReport> reports;
  for (size_t layer = 0; layer < mass.layer_chunk.size(); ++layer) {
    ReadReport report;
    report.steps = static_cast<uint32_t>(steps);
    for (size_t c = 0; c < lease.chunks; ++c) {
      report.mass.push_back(
          std::min(1.0, mass.layer_chunk[layer][c] / static_cast<double>(mass.queries)));
    }
    // Attention weighs keys and values alike: a step that reads one reads the other.
    for (const size_t plane : {2 * layer, 2 * layer + 1}) {
      report.plane = static_cast<uint32_t>(plane);
      reports.push_back(report);
    }
  }
  return client_->Report(lease.id, reports);
}

absl::Status DaemonKvStore::Release(LeaseId lease) { return client_->Release(lease); }

absl::StatusOr<KvStore::ReservationId> DaemonKvStore::Reserve(const ChunkKey& parent,
                                                              size_t chunks) {
  KVTIER_RETURN_IF_ERROR(EnsureModel());
  ReserveRequest request;
  request.model = *model_;
  request.parent = parent;
  request.chunk_count = static_cast<uint32_t>(chunks);
  return client_->Reserve(std::move(request));
}

absl::Status DaemonKvStore::Store(ReservationId reservation,
                                  const std::vector<StoreBlock>& blocks) {
  KVTIER_RETURN_IF_ERROR(EnsureModel());
  PutRequest request;
  request.model = *model_;
  request.reservation = reservation;
  request.blocks.reserve(blocks.size());
  for (const StoreBlock& block : blocks) {
    BlockSource source;
    source.chunk = static_cast<uint32_t>(block.chunk);
    source.plane = static_cast<uint32_t>(block.plane);
    source.pieces.push_back({block.bytes.data(), block.bytes.size()});
    request.blocks.push_back(std::move(source));
  }
  return client_->Put(std::move(request));
}

absl::StatusOr<std::vector<CommitOutcome>> DaemonKvStore::Commit(
    ReservationId reservation, const std::vector<ChunkCommitment>& chunks) {
  KVTIER_RETURN_IF_ERROR(EnsureModel());
  CommitRequest request;
  request.model = *model_;
  request.reservation = reservation;
  for (const ChunkCommitment& chunk : chunks) {
    ChunkCommit commit;
    commit.chunk = static_cast<uint32_t>(chunk.chunk);
    commit.key = chunk.key;
    commit.token_count = static_cast<uint32_t>(chunk.token_count);
    request.chunks.push_back(std::move(commit));
  }
  KVTIER_ASSIGN_OR_RETURN(const std::vector<CommitResult> results,
                          client_->Commit(std::move(request)));
  std::vector<CommitOutcome> outcomes;
  for (const CommitResult result : results) {
    if (result == CommitResult::kPartial) {
      return absl::InternalError(
          "commit: all planes were committed, yet the daemon waits for more");
    }
    outcomes.push_back(result == CommitResult::kAlreadyExists ? CommitOutcome::kAlreadyExists
                                                              : CommitOutcome::kCommitted);
  }
  return outcomes;
}

absl::Status DaemonKvStore::Abort(ReservationId reservation) { return client_->Abort(reservation); }

}  // namespace kvtier::examples
