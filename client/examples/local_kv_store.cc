#include "client/examples/local_kv_store.h"

#include <xxhash.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvtier::examples {
namespace {

absl::Status Unknown(const char* what, uint64_t id) {
  return absl::NotFoundError(absl::StrCat("local store: no ", what, " ", id));
}

}  // namespace

absl::StatusOr<ChunkKey> LocalKvStore::Key(const ChunkKey& parent,
                                           std::span<const uint32_t> tokens) {
  std::string text(parent.begin(), parent.end());
  text.append(reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes());
  const XXH128_hash_t digest = XXH3_128bits(text.data(), text.size());
  ChunkKey key;
  static_assert(sizeof(digest) == sizeof(key));
  std::memcpy(key.data(), &digest, sizeof(key));
  return key;
}

absl::StatusOr<KvStore::Lease> LocalKvStore::Acquire(const std::vector<ChunkKey>& keys) {
  Lease lease;
  while (lease.chunks < keys.size() && committed_.count(keys[lease.chunks]) != 0) ++lease.chunks;
  if (lease.chunks == 0) return lease;
  lease.id = ++last_id_;
  leases_[lease.id].assign(keys.begin(), keys.begin() + static_cast<ptrdiff_t>(lease.chunks));
  return lease;
}

absl::StatusOr<FetchResult> LocalKvStore::Fetch(const Lease& lease, KvTable& kv) {
  const auto found = leases_.find(lease.id);
  if (found == leases_.end()) return Unknown("lease", lease.id);
  const KvGeometry& geometry = options_.geometry;
  FetchResult result;
  result.blocks.resize(found->second.size() * geometry.planes());
  result.bytes_by_pool["local"] = found->second.size() * geometry.chunk_bytes();
  if (!options_.in_place) kv.Grow(found->second.size() * geometry.chunk_tokens);
  for (size_t c = 0; c < found->second.size(); ++c) {
    const std::byte* chunk = committed_.at(found->second[c]).get();
    std::vector<const std::byte*> planes;
    for (size_t p = 0; p < geometry.planes(); ++p)
      planes.push_back(chunk + p * geometry.plane_bytes());
    if (options_.in_place) {
      kv.View(c, planes);
      continue;
    }
    for (size_t p = 0; p < geometry.planes(); ++p)
      std::memcpy(kv.writable_plane(c, p).data(), planes[p], geometry.plane_bytes());
    kv.NoteFetched(geometry.chunk_bytes());
  }
  return result;
}

absl::Status LocalKvStore::Report(const Lease& lease, const AttentionMass&, size_t) {
  return leases_.count(lease.id) != 0 ? absl::OkStatus() : Unknown("lease", lease.id);
}

absl::Status LocalKvStore::Release(LeaseId lease) {
  return leases_.erase(lease) != 0 ? absl::OkStatus() : Unknown("lease", lease);
}

absl::StatusOr<KvStore::ReservationId> LocalKvStore::Reserve(const ChunkKey& parent,
                                                             size_t chunks) {
  if (parent != ChunkKey{} && committed_.count(parent) == 0) {
    return absl::FailedPreconditionError("local store: the parent chunk is not committed");
  }
  const size_t chunk_bytes = options_.geometry.chunk_bytes();
  const size_t free_chunks = (options_.bytes_max - bytes_) / chunk_bytes;
  if (chunks > free_chunks) {
    return absl::ResourceExhaustedError(absl::StrCat("local store: ", chunks, " chunks of ",
                                                     chunk_bytes, " bytes; ", bytes_, " of ",
                                                     options_.bytes_max, " are in use"));
  }
  std::vector<ChunkBytes>& reserved = reserved_[++last_id_];
  for (size_t i = 0; i < chunks; ++i)
    reserved.push_back(std::make_unique<std::byte[]>(chunk_bytes));
  bytes_ += chunks * chunk_bytes;
  return last_id_;
}

std::vector<std::byte*> LocalKvStore::Buffers(ReservationId reservation, size_t chunk) {
  std::vector<std::byte*> planes;
  const auto found = reserved_.find(reservation);
  if (!options_.in_place || found == reserved_.end() || chunk >= found->second.size() ||
      found->second[chunk] == nullptr)
    return planes;
  for (size_t p = 0; p < options_.geometry.planes(); ++p)
    planes.push_back(found->second[chunk].get() + p * options_.geometry.plane_bytes());
  return planes;
}

absl::Status LocalKvStore::Store(ReservationId reservation, const std::vector<StoreBlock>& blocks) {
  const auto found = reserved_.find(reservation);
  if (found == reserved_.end()) return Unknown("reservation", reservation);
  for (const StoreBlock& block : blocks) {
    if (block.chunk >= found->second.size() || found->second[block.chunk] == nullptr ||
        block.plane >= options_.geometry.planes() ||
        block.bytes.size() != options_.geometry.plane_bytes()) {
      return absl::InvalidArgumentError(absl::StrCat("local store: chunk ", block.chunk, " plane ",
                                                     block.plane, " of ", block.bytes.size(),
                                                     " bytes is not in reservation ", reservation));
    }
    std::memcpy(found->second[block.chunk].get() + block.plane * options_.geometry.plane_bytes(),
                block.bytes.data(), block.bytes.size());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<CommitOutcome>> LocalKvStore::Commit(
    ReservationId reservation, const std::vector<ChunkCommitment>& chunks) {
  const auto found = reserved_.find(reservation);
  if (found == reserved_.end()) return Unknown("reservation", reservation);
  std::vector<CommitOutcome> outcomes;
  for (const ChunkCommitment& chunk : chunks) {
    if (chunk.chunk >= found->second.size() || found->second[chunk.chunk] == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("local store: chunk ", chunk.chunk, " is not in reservation ", reservation));
    }
    ChunkBytes& bytes = found->second[chunk.chunk];
    const bool inserted = committed_.try_emplace(chunk.key, std::move(bytes)).second;
    if (!inserted) {
      bytes_ -= options_.geometry.chunk_bytes();
      until_end_of_step_.push_back(std::move(bytes));
    }
    outcomes.push_back(inserted ? CommitOutcome::kCommitted : CommitOutcome::kAlreadyExists);
  }
  bool open = false;
  for (const ChunkBytes& bytes : found->second) open = open || bytes != nullptr;
  if (!open) reserved_.erase(found);
  return outcomes;
}

absl::Status LocalKvStore::Abort(ReservationId reservation) {
  const auto found = reserved_.find(reservation);
  if (found == reserved_.end()) return Unknown("reservation", reservation);
  for (ChunkBytes& bytes : found->second) {
    if (bytes == nullptr) continue;
    bytes_ -= options_.geometry.chunk_bytes();
    until_end_of_step_.push_back(std::move(bytes));
  }
  reserved_.erase(found);
  return absl::OkStatus();
}

}  // namespace kvtier::examples
