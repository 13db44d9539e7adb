#include "client/examples/daemon_kv_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tiering/base/status_macros.h"

namespace kvtier::examples {
namespace {

absl::Status BlockStatus(const BlockView& view, size_t chunk, size_t plane) {
  if (view.data != nullptr) return absl::OkStatus();
  return absl::Status(view.code,
                      absl::StrCat("chunk ", chunk, " plane ", plane, " cannot be read in place"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DaemonKvStore>> DaemonKvStore::Create(const Options& options,
                                                                     PausePoints& pauses) {
  ClientOptions client_options;
  client_options.socket = options.socket;
  client_options.name = options.name;
  client_options.transport = options.transport;
  client_options.verify = options.verify;
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(client_options);
  if (absl::IsUnavailable(client.status())) client = Client::Create(client_options);
  if (!client.ok()) return client.status();
  return std::unique_ptr<DaemonKvStore>(new DaemonKvStore(options, pauses, *std::move(client)));
}

DaemonKvStore::DaemonKvStore(const Options& options, PausePoints& pauses,
                             std::unique_ptr<Client> client)
    : options_(options), pauses_(pauses), client_(std::move(client)) {}

const char* DaemonKvStore::transport_name() const {
  switch (client_->transport()) {
    case Transport::kSharedMemory:
      return "shared_memory";
    case Transport::kStream:
      return "stream";
    case Transport::kAuto:
      break;
  }
  return "none";
}

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
  if (section_.has_value()) {
    auto result = FetchInPlace(lease, kv);
    // Where something is read in place already, what follows is copied or computed by the caller.
    if (result.ok() || kv.chunks() > 0) return result;
  }
  return FetchByCopy(lease, kv);
}

absl::StatusOr<FetchResult> DaemonKvStore::FetchByCopy(const Lease& lease, KvTable& kv) {
  const size_t planes = options_.geometry.planes();
  const size_t first = std::min(kv.chunks(), lease.chunks);  // what is there already is the same
  kv.Grow(std::max(kv.chunks(), lease.chunks) * options_.geometry.chunk_tokens);
  GetRequest request;
  request.model = *model_;
  request.lease = lease.id;
  for (size_t c = first; c < lease.chunks; ++c) {
    for (size_t p = 0; p < planes; ++p) {
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
  result.blocks.resize(first * planes);
  for (BlockResult& block : got.blocks) result.blocks.push_back(std::move(block.status));
  for (const auto& [pool, bytes] : got.bytes_by_pool) kv.NoteFetched(bytes);
  result.bytes_by_pool = std::move(got.bytes_by_pool);
  return result;
}

absl::StatusOr<FetchResult> DaemonKvStore::FetchInPlace(const Lease& lease, KvTable& kv) {
  table_.emplace(lease.id, std::vector<uint32_t>());
  table_lease_ = lease.id;
  const absl::StatusOr<size_t> moved = table_->Update(*section_);
  if (!moved.ok()) {
    table_.reset();
    return moved.status();
  }
  const size_t planes = options_.geometry.planes();
  FetchResult result;
  for (size_t c = 0; c < lease.chunks; ++c) {
    std::vector<const std::byte*> addresses;
    for (size_t p = 0; p < planes; ++p) {
      const BlockView& view = table_->view(static_cast<uint32_t>(c), static_cast<uint32_t>(p));
      addresses.push_back(static_cast<const std::byte*>(view.data));
      result.blocks.push_back(BlockStatus(view, c, p));
      if (view.data != nullptr) result.bytes_by_pool[std::string(view.pool)] += view.bytes;
    }
    const auto failed = std::find_if(result.blocks.end() - static_cast<ptrdiff_t>(planes),
                                     result.blocks.end(), [](const auto& s) { return !s.ok(); });
    if (failed == result.blocks.end()) {
      // What is in own memory already stays there.
      if (c >= kv.chunks() || kv.memory(c) != ChunkMemory::kOwn) kv.View(c, addresses);
    } else {
      kv.Lose(c, *failed);
    }
  }
  return result;
}

void DaemonKvStore::BeginStep(KvTable& kv) {
  if (table_.has_value()) RenewIfDue(table_lease_).IgnoreError();  // else its blocks are lost
  absl::StatusOr<ReadSection> section = client_->EnterSection();
  if (!section.ok()) {
    for (size_t c = 0; c < kv.chunks(); ++c) kv.Lose(c, section.status());
    table_.reset();
    return;
  }
  section_.emplace(*std::move(section));
  pauses_.Reach(PausePoint::kEntered);
  CheckPlaced(kv);
  UpdateViews(kv);
  pauses_.Reach(PausePoint::kInsideSection);
}

void DaemonKvStore::UpdateViews(KvTable& kv) {
  const absl::StatusOr<size_t> moved =
      table_.has_value() ? table_->Update(*section_) : absl::NotFoundError("no lease");
  if (moved.ok() && *moved == 0 && table_->missing() == 0) return;
  const size_t planes = options_.geometry.planes();
  const size_t leased = moved.ok() ? table_->views().size() / planes : 0;
  for (size_t c = 0; c < kv.chunks(); ++c) {
    if (kv.memory(c) != ChunkMemory::kViewed) continue;
    absl::Status status = moved.status();
    if (moved.ok() && c >= leased)
      status = absl::NotFoundError(absl::StrCat("chunk ", c, " is not leased"));
    std::vector<const std::byte*> addresses;
    for (size_t p = 0; p < planes && status.ok(); ++p) {
      const BlockView& view = table_->view(static_cast<uint32_t>(c), static_cast<uint32_t>(p));
      addresses.push_back(static_cast<const std::byte*>(view.data));
      status = BlockStatus(view, c, p);
    }
    if (status.ok()) {
      kv.View(c, addresses);
    } else {
      kv.Lose(c, status);
    }
  }
  if (!moved.ok()) table_.reset();
}

void DaemonKvStore::CheckPlaced(KvTable& kv) {
  for (size_t c = 0; c < kv.chunks(); ++c) {
    if (kv.memory(c) != ChunkMemory::kPlaced) continue;
    const auto placed = std::find_if(placed_.begin(), placed_.end(), [&](const Placed& one) {
      return one.planes.front() == kv.plane(c, 0).data();
    });
    if (placed == placed_.end() ||
        ClientBuffers(placed->reservation, placed->chunk) != placed->planes)
      kv.Lose(c, absl::NotFoundError(absl::StrCat("chunk ", c, ": its reservation is gone")));
  }
}

absl::Status DaemonKvStore::Report(const Lease& lease, const AttentionMass& mass, size_t steps) {
  KVTIER_RETURN_IF_ERROR(RenewIfDue(lease.id));
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

absl::Status DaemonKvStore::RenewIfDue(LeaseId lease) {
  if (absl::Now() - lease_renewed_ <= lease_ttl_ / 3) return absl::OkStatus();
  KVTIER_ASSIGN_OR_RETURN(lease_ttl_, client_->Renew(lease, lease_ttl_));
  lease_renewed_ = absl::Now();
  return absl::OkStatus();
}

absl::Status DaemonKvStore::Release(LeaseId lease) {
  if (lease == table_lease_) table_.reset();
  return client_->Release(lease);
}

absl::StatusOr<KvStore::ReservationId> DaemonKvStore::Reserve(const ChunkKey& parent,
                                                              size_t chunks) {
  KVTIER_RETURN_IF_ERROR(EnsureModel());
  for (const ReservationId reservation : std::exchange(to_abort_, {}))
    Abort(reservation).IgnoreError();
  ReserveRequest request;
  request.model = *model_;
  request.parent = parent;
  request.chunk_count = static_cast<uint32_t>(chunks);
  return client_->Reserve(std::move(request));
}

std::vector<std::byte*> DaemonKvStore::ClientBuffers(ReservationId reservation, size_t chunk) {
  std::vector<std::byte*> planes;
  const auto buffers = client_->Buffers(reservation, static_cast<uint32_t>(chunk));
  if (!buffers.ok()) return planes;
  for (const MutableBuffer& buffer : *buffers)
    planes.push_back(static_cast<std::byte*>(buffer.data));
  return planes;
}

std::vector<std::byte*> DaemonKvStore::Buffers(ReservationId reservation, size_t chunk) {
  // Without a section the memory could go while it is written.
  if (!section_.has_value()) return {};
  std::vector<std::byte*> planes = ClientBuffers(reservation, chunk);
  if (planes.size() != options_.geometry.planes()) return {};
  if (!placed_.empty() && placed_.back().reservation != reservation) placed_.clear();
  placed_.push_back({.reservation = reservation, .chunk = chunk, .planes = planes});
  return planes;
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

absl::Status DaemonKvStore::Abort(ReservationId reservation) {
  const absl::Status status = client_->Abort(reservation);
  // The client keeps the memory of a reservation in place, be its daemon dead, until it is told.
  if (!status.ok() && !absl::IsNotFound(status)) to_abort_.push_back(reservation);
  return status;
}

}  // namespace kvtier::examples
