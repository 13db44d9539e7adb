#include "client/examples/chunk_writer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"

namespace kvtier::examples {

ChunkWriter::ChunkWriter(KvStore& store, PausePoints& pauses, KvStore::Lease& lease,
                         std::vector<ChunkKey> keys)
    : store_(store), pauses_(pauses), lease_(lease), keys_(std::move(keys)) {}

absl::Status ChunkWriter::Reserve(size_t first, size_t count) {
  const ChunkKey parent = first == 0 ? ChunkKey{} : keys_[first - 1];
  absl::StatusOr<KvStore::ReservationId> reservation = store_.Reserve(parent, count);
  // A store with room for one chunk but not for a batch still takes the one.
  if (absl::IsResourceExhausted(reservation.status()) && count > 1) {
    count = 1;
    reservation = store_.Reserve(parent, count);
  }
  KVTIER_RETURN_IF_ERROR(reservation.status());
  room_ = {.id = *reservation, .first = first, .next = first, .count = count};
  pauses_.Reach(PausePoint::kReserved);
  return absl::OkStatus();
}

void ChunkWriter::Prepare(KvTable& kv, size_t count) {
  const size_t chunk_tokens = kv.geometry().chunk_tokens;
  const size_t first = kv.tokens() / chunk_tokens;
  if (!store_.in_place() || count == 0 || room_.id != 0 || first < retry_at_) return;
  // What is private or lost comes first: chunks are committed in order.
  if (keys_.size() != first || (first < kv.chunks() && kv.memory(first) == ChunkMemory::kLost))
    return;
  const size_t end = (kv.tokens() + count + chunk_tokens - 1) / chunk_tokens;
  const absl::Status reserved = Reserve(first, std::min(end - first, kBatchChunks));
  if (!reserved.ok()) return Finish(reserved, first);
  const KvStep step(store_, kv);
  for (size_t c = first; c < room_.end(); ++c) {
    if (c < kv.chunks() && kv.memory(c) == ChunkMemory::kLost) break;
    const std::vector<std::byte*> planes = store_.Buffers(room_.id, c - first);
    if (planes.empty()) break;  // the rest goes to own memory, and is copied when it is stored
    kv.Place(c, planes);
  }
}

void ChunkWriter::StoreFull(std::span<const uint32_t> tokens, KvTable& kv) {
  const size_t full = kv.tokens() / kv.geometry().chunk_tokens;
  if (keys_.size() >= full || full < retry_at_) return;
  Finish(StoreUpTo(tokens, kv, full), full);
}

void ChunkWriter::StoreAll(std::span<const uint32_t> tokens, KvTable& kv) {
  const size_t chunk_tokens = kv.geometry().chunk_tokens;
  const size_t full = kv.tokens() / chunk_tokens;
  read_on_ = false;
  Finish(StoreUpTo(tokens, kv, (kv.tokens() + chunk_tokens - 1) / chunk_tokens), full);
  GiveUpRoom(kv);
}

absl::Status ChunkWriter::StoreUpTo(std::span<const uint32_t> tokens, KvTable& kv, size_t chunks) {
  KVTIER_CHECK(tokens.size() >= kv.tokens());
  while (stored() < chunks) {
    // What is not committed in order cannot be committed at all.
    if (room_.id != 0 && room_.next != keys_.size()) GiveUpRoom(kv);
    if (room_.id == 0) {
      const size_t first = keys_.size();
      KVTIER_RETURN_IF_ERROR(Reserve(first, std::min(chunks - first, kBatchChunks)));
    }
    const absl::Status status = StoreBatch(tokens, kv, std::min(chunks, room_.end()) - room_.next);
    if (!status.ok()) {
      GiveUpRoom(kv);
      return status;
    }
  }
  return absl::OkStatus();
}

// The store may have ended the reservation itself, or be gone; either way nothing is left to give
// back. Nobody else is given its memory, and this worker only with its next reservation: what was
// written is still there.
void ChunkWriter::GiveUpRoom(KvTable& kv) {
  if (room_.id == 0) return;
  if (read_on_) {
    const KvStep step(store_, kv);
    for (size_t c = room_.first; c < std::min(room_.end(), kv.chunks()); ++c) {
      if (kv.memory(c) == ChunkMemory::kPlaced) kv.Keep(c);
    }
  }
  store_.Abort(room_.id).IgnoreError();
  room_ = {};
}

absl::Status ChunkWriter::StoreBatch(std::span<const uint32_t> tokens, KvTable& kv, size_t count) {
  const size_t chunk_tokens = kv.geometry().chunk_tokens;
  const size_t first = room_.next;
  const ChunkKey parent = first == 0 ? ChunkKey{} : keys_[first - 1];
  std::vector<ChunkCommitment> chunks;
  for (size_t i = 0; i < count; ++i) {
    const size_t begin = (first + i) * chunk_tokens;
    const size_t size = std::min(chunk_tokens, kv.tokens() - begin);
    KVTIER_ASSIGN_OR_RETURN(const ChunkKey key, store_.Key(i == 0 ? parent : chunks.back().key,
                                                           tokens.subspan(begin, size)));
    chunks.push_back({.chunk = first - room_.first + i, .key = key, .token_count = size});
  }
  // To the end of the step all can be read that is committed in it, whatever becomes of it.
  const KvStep step(store_, kv);
  size_t in_place = 0;
  for (size_t c = first; c < first + count; ++c) {
    if (kv.memory(c) == ChunkMemory::kLost)
      return absl::UnavailableError(
          absl::StrCat("chunk ", c, " is lost, and not computed again yet"));
    in_place += kv.memory(c) == ChunkMemory::kPlaced;
  }
  KVTIER_RETURN_IF_ERROR(FillAndCommit(chunks, kv));
  counts_.in_place += in_place;
  for (const ChunkCommitment& chunk : chunks) {
    if (chunk.token_count == chunk_tokens) {
      keys_.push_back(chunk.key);
    } else {
      tail_stored_ = true;
    }
  }
  room_.next += count;
  if (room_.next == room_.end()) room_ = {};
  if (in_place > 0 && read_on_) LeaseWritten(kv, first);
  return absl::OkStatus();
}

absl::Status ChunkWriter::FillRoom(const std::vector<ChunkCommitment>& chunks, const KvTable& kv) {
  std::vector<StoreBlock> blocks;
  for (const ChunkCommitment& chunk : chunks) {
    if (kv.memory(room_.first + chunk.chunk) == ChunkMemory::kPlaced) continue;
    for (size_t p = 0; p < kv.geometry().planes(); ++p) {
      blocks.push_back(
          {.chunk = chunk.chunk, .plane = p, .bytes = kv.plane(room_.first + chunk.chunk, p)});
    }
  }
  if (blocks.empty()) return absl::OkStatus();
  if (pauses_.Watches(PausePoint::kHalfStored)) {
    const auto half = blocks.begin() + static_cast<ptrdiff_t>(blocks.size() / 2);
    KVTIER_RETURN_IF_ERROR(store_.Store(room_.id, {blocks.begin(), half}));
    pauses_.Reach(PausePoint::kHalfStored);
    blocks.erase(blocks.begin(), half);
  }
  return store_.Store(room_.id, blocks);
}

absl::Status ChunkWriter::FillAndCommit(const std::vector<ChunkCommitment>& chunks,
                                        const KvTable& kv) {
  KVTIER_RETURN_IF_ERROR(FillRoom(chunks, kv));
  pauses_.Reach(PausePoint::kBeforeCommit);
  KVTIER_ASSIGN_OR_RETURN(const std::vector<CommitOutcome> outcomes,
                          store_.Commit(room_.id, chunks));
  if (outcomes.size() != chunks.size())
    return absl::InternalError("commit: fewer outcomes than chunks");
  for (const CommitOutcome outcome : outcomes) {
    ++(outcome == CommitOutcome::kCommitted ? counts_.committed : counts_.existing);
  }
  pauses_.Reach(PausePoint::kAfterCommit);
  return absl::OkStatus();
}

// What was committed in place belongs to the store, which may move or drop it. A lease keeps it,
// and says where it is from now on; what no lease covers is copied while the step lasts.
void ChunkWriter::LeaseWritten(KvTable& kv, size_t first) {
  const absl::StatusOr<KvStore::Lease> lease = store_.Acquire(keys_);
  size_t leased = lease_.chunks;
  if (!lease.ok()) NoteError(lease.status());
  if (lease.ok() && lease->chunks > 0) {
    const absl::StatusOr<FetchResult> fetched = store_.Fetch(*lease, kv);
    if (!fetched.ok()) NoteError(fetched.status());
    // Of two leases the one that was fetched last is followed.
    const KvStore::Lease old = std::exchange(lease_, *lease);
    if (old.id != 0) store_.Release(old.id).IgnoreError();
    leased = fetched.ok() ? lease->chunks : 0;
  }
  for (size_t c = std::min(leased, first); c < keys_.size(); ++c) {
    if (c >= leased && kv.memory(c) != ChunkMemory::kLost) kv.Keep(c);
  }
}

// The parent is gone: evicted, for nothing leases what a worker wrote itself and copied, or lost
// with a daemon that was restarted. Goes back to the longest prefix that the store still has; the
// KV to store the rest again is here.
void ChunkWriter::FindParent() {
  const absl::StatusOr<KvStore::Lease> lease = store_.Acquire(keys_);
  if (!lease.ok()) return;
  keys_.resize(std::min(keys_.size(), lease->chunks));
  if (lease->id != 0) store_.Release(lease->id).IgnoreError();
}

void ChunkWriter::NoteError(const absl::Status& status) {
  ++counts_.refused;
  counts_.last_error = std::string(status.message());
  counts_.last_error_code = absl::StatusCodeToString(status.code());
}

void ChunkWriter::Finish(const absl::Status& status, size_t full) {
  if (status.ok()) {
    retry_after_ = 1;
    return;
  }
  NoteError(status);
  if (absl::IsFailedPrecondition(status) || absl::IsNotFound(status)) FindParent();
  retry_at_ = full + retry_after_;
  retry_after_ = std::min(2 * retry_after_, kRetryAfterMax);
}

}  // namespace kvtier::examples
