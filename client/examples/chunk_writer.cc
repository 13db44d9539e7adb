#include "client/examples/chunk_writer.h"

#include <algorithm>
#include <utility>

#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"

namespace kvtier::examples {

ChunkWriter::ChunkWriter(KvStore& store, PausePoints& pauses, std::vector<ChunkKey> keys)
    : store_(store), pauses_(pauses), keys_(std::move(keys)) {}

void ChunkWriter::StoreFull(std::span<const uint32_t> tokens, const KvBuffer& kv) {
  const size_t full = kv.tokens() / kv.geometry().chunk_tokens;
  if (keys_.size() >= full || full < retry_at_) return;
  Finish(StoreUpTo(tokens, kv, full), full);
}

void ChunkWriter::StoreAll(std::span<const uint32_t> tokens, const KvBuffer& kv) {
  const size_t chunk_tokens = kv.geometry().chunk_tokens;
  const size_t full = kv.tokens() / chunk_tokens;
  Finish(StoreUpTo(tokens, kv, (kv.tokens() + chunk_tokens - 1) / chunk_tokens), full);
}

absl::Status ChunkWriter::StoreUpTo(std::span<const uint32_t> tokens, const KvBuffer& kv,
                                    size_t chunks) {
  KVTIER_CHECK(tokens.size() >= kv.tokens());
  while (stored() < chunks) {
    const size_t first = keys_.size();
    const size_t count = std::min(chunks - first, kBatchChunks);
    absl::Status status = StoreBatch(tokens, kv, first, count);
    // A store with room for one chunk but not for a batch still takes the one.
    if (absl::IsResourceExhausted(status) && count > 1) status = StoreBatch(tokens, kv, first, 1);
    KVTIER_RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

absl::Status ChunkWriter::StoreBatch(std::span<const uint32_t> tokens, const KvBuffer& kv,
                                     size_t first, size_t count) {
  const size_t chunk_tokens = kv.geometry().chunk_tokens;
  const ChunkKey parent = first == 0 ? ChunkKey{} : keys_[first - 1];
  std::vector<ChunkCommitment> chunks;
  for (size_t i = 0; i < count; ++i) {
    const size_t begin = (first + i) * chunk_tokens;
    const size_t size = std::min(chunk_tokens, kv.tokens() - begin);
    KVTIER_ASSIGN_OR_RETURN(const ChunkKey key, store_.Key(i == 0 ? parent : chunks.back().key,
                                                           tokens.subspan(begin, size)));
    chunks.push_back({.chunk = i, .key = key, .token_count = size});
  }
  KVTIER_ASSIGN_OR_RETURN(const KvStore::ReservationId reservation, store_.Reserve(parent, count));
  const absl::Status status = FillAndCommit(reservation, chunks, kv, first);
  if (!status.ok()) {
    // The store may have ended the reservation itself, or be gone; either way nothing is left to
    // give back.
    store_.Abort(reservation).IgnoreError();
    return status;
  }
  for (const ChunkCommitment& chunk : chunks) {
    if (chunk.token_count == chunk_tokens) {
      keys_.push_back(chunk.key);
    } else {
      tail_stored_ = true;
    }
  }
  return absl::OkStatus();
}

absl::Status ChunkWriter::FillAndCommit(KvStore::ReservationId reservation,
                                        const std::vector<ChunkCommitment>& chunks,
                                        const KvBuffer& kv, size_t first) {
  pauses_.Reach(PausePoint::kReserved);
  std::vector<StoreBlock> blocks;
  for (const ChunkCommitment& chunk : chunks) {
    for (size_t p = 0; p < kv.geometry().planes(); ++p) {
      blocks.push_back(
          {.chunk = chunk.chunk, .plane = p, .bytes = kv.plane(first + chunk.chunk, p)});
    }
  }
  if (pauses_.Watches(PausePoint::kHalfStored)) {
    const auto half = blocks.begin() + static_cast<ptrdiff_t>(blocks.size() / 2);
    KVTIER_RETURN_IF_ERROR(store_.Store(reservation, {blocks.begin(), half}));
    pauses_.Reach(PausePoint::kHalfStored);
    blocks.erase(blocks.begin(), half);
  }
  KVTIER_RETURN_IF_ERROR(store_.Store(reservation, blocks));
  pauses_.Reach(PausePoint::kBeforeCommit);
  KVTIER_ASSIGN_OR_RETURN(const std::vector<CommitOutcome> outcomes,
                          store_.Commit(reservation, chunks));
  if (outcomes.size() != chunks.size())
    return absl::InternalError("commit: fewer outcomes than chunks");
  for (const CommitOutcome outcome : outcomes) {
    ++(outcome == CommitOutcome::kCommitted ? counts_.committed : counts_.existing);
  }
  pauses_.Reach(PausePoint::kAfterCommit);
  return absl::OkStatus();
}

// The parent is gone: evicted, for nothing leases what a worker wrote itself, or lost with a daemon
// that was restarted. Goes back to the longest prefix that the store still has; the KV to store the
// rest again is here.
void ChunkWriter::FindParent() {
  const absl::StatusOr<KvStore::Lease> lease = store_.Acquire(keys_);
  if (!lease.ok()) return;
  keys_.resize(std::min(keys_.size(), lease->chunks));
  if (lease->id != 0) store_.Release(lease->id).IgnoreError();
}

void ChunkWriter::Finish(const absl::Status& status, size_t full) {
  if (status.ok()) {
    retry_after_ = 1;
    return;
  }
  ++counts_.refused;
  counts_.last_error = std::string(status.message());
  counts_.last_error_code = absl::StatusCodeToString(status.code());
  if (absl::IsFailedPrecondition(status) || absl::IsNotFound(status)) FindParent();
  retry_at_ = full + retry_after_;
  retry_after_ = std::min(2 * retry_after_, kRetryAfterMax);
}

}  // namespace kvtier::examples
