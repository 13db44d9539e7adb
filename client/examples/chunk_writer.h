#pragma once

// Brings the chunks of one sequence into a KvStore as they fill.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/examples/kv_store.h"
#include "client/examples/pause_points.h"

namespace kvtier::examples {

// A chunk can only be committed after its parent, so what is stored is always a prefix: chunks 0 to
// stored() - 1. Where the store lets it, chunks are computed in the memory that they stay in: room
// is reserved before they are written. When the store refuses, the rest stays private to the worker
// and is offered again later, with growing pauses, so that a full or dead daemon costs a few calls
// a prompt and never waiting. Not thread-safe.
class ChunkWriter {
 public:
  struct Counts {
    size_t committed = 0;  // chunks this writer published, a partial tail included
    size_t existing = 0;   // chunks that another worker had published meanwhile
    size_t in_place = 0;   // of both, those that were written in place
    size_t refused = 0;    // calls that ended in an error
    std::string last_error;
    std::string last_error_code;  // "RESOURCE_EXHAUSTED"
  };

  // Starts after the first `stored` chunks, which the store is known to have; `keys` are theirs.
  // `lease` is the one that the sequence is read under: chunks written in place are read under a
  // longer one from their commit on. All three must outlive the writer, the memory of `kv`, in the
  // calls below, the call only.
  ChunkWriter(KvStore& store, PausePoints& pauses, KvStore::Lease& lease,
              std::vector<ChunkKey> keys);

  // Reserves the chunks that the next `count` tokens go to, and places them there. Does nothing
  // while it waits after a refusal, or where nothing is written in place.
  void Prepare(KvTable& kv, size_t count);
  // Stores the chunks of `tokens` that are complete in `kv` and not stored yet. Does nothing while
  // it waits after a refusal.
  void StoreFull(std::span<const uint32_t> tokens, KvTable& kv);
  // The same, without waiting, and with the partial chunk at the end as a leaf. `kv` is not read
  // afterwards.
  void StoreAll(std::span<const uint32_t> tokens, KvTable& kv);

  size_t stored() const { return keys_.size() + (tail_stored_ ? 1 : 0); }
  const Counts& counts() const { return counts_; }

 private:
  // Chunks that go through one reservation: one round of calls for a whole batch of prefill.
  static constexpr size_t kBatchChunks = 8;
  static constexpr size_t kRetryAfterMax = 16;

  // A reservation, for chunks first to first + count - 1; those before `next` are committed.
  struct Room {
    KvStore::ReservationId id = 0;  // 0: none
    size_t first = 0;
    size_t next = 0;
    size_t count = 0;
    size_t end() const { return first + count; }
  };

  absl::Status Reserve(size_t first, size_t count);
  void GiveUpRoom(KvTable& kv);
  absl::Status StoreUpTo(std::span<const uint32_t> tokens, KvTable& kv, size_t chunks);
  absl::Status StoreBatch(std::span<const uint32_t> tokens, KvTable& kv, size_t count);
  absl::Status FillAndCommit(const std::vector<ChunkCommitment>& chunks, const KvTable& kv);
  absl::Status FillRoom(const std::vector<ChunkCommitment>& chunks, const KvTable& kv);
  void LeaseWritten(KvTable& kv, size_t first);
  void FindParent();
  void Finish(const absl::Status& status, size_t full);
  void NoteError(const absl::Status& status);

  KvStore& store_;
  PausePoints& pauses_;
  KvStore::Lease& lease_;
  std::vector<ChunkKey> keys_;  // of the full chunks that are stored
  bool tail_stored_ = false;
  bool read_on_ = true;  // what is stored is read afterwards
  Room room_;
  size_t retry_at_ = 0;     // full chunks there must be before StoreFull tries again
  size_t retry_after_ = 1;  // chunks between two tries; doubles with each refusal
  Counts counts_;
};

}  // namespace kvtier::examples
