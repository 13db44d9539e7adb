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
// stored() - 1. When the store refuses, the rest stays private to the worker and is offered again
// later, with growing pauses, so that a full or dead daemon costs a few calls a prompt and never
// waiting. Not thread-safe.
class ChunkWriter {
 public:
  struct Counts {
    size_t committed = 0;  // chunks this writer published, a partial tail included
    size_t existing = 0;   // chunks that another worker had published meanwhile
    size_t refused = 0;    // calls that ended in an error
    std::string last_error;
    std::string last_error_code;  // "RESOURCE_EXHAUSTED"
  };

  // Starts after the first `stored` chunks, which the store is known to have; `keys` are theirs.
  // `store`, `pauses` and, in the calls below, the memory of `kv` must outlive the call only.
  ChunkWriter(KvStore& store, PausePoints& pauses, std::vector<ChunkKey> keys);

  // Stores the chunks of `tokens` that are complete in `kv` and not stored yet. Does nothing while
  // it waits after a refusal.
  void StoreFull(std::span<const uint32_t> tokens, const KvBuffer& kv);
  // The same, without waiting, and with the partial chunk at the end as a leaf.
  void StoreAll(std::span<const uint32_t> tokens, const KvBuffer& kv);

  size_t stored() const { return keys_.size() + (tail_stored_ ? 1 : 0); }
  const Counts& counts() const { return counts_; }

 private:
  // Chunks that go through one reservation: one round of calls for a whole batch of prefill.
  static constexpr size_t kBatchChunks = 8;
  static constexpr size_t kRetryAfterMax = 16;

  absl::Status StoreBatch(std::span<const uint32_t> tokens, const KvBuffer& kv, size_t first,
                          size_t count);
  absl::Status FillAndCommit(KvStore::ReservationId reservation,
                             const std::vector<ChunkCommitment>& chunks, const KvBuffer& kv,
                             size_t first);
  absl::Status StoreUpTo(std::span<const uint32_t> tokens, const KvBuffer& kv, size_t chunks);
  void FindParent();
  void Finish(const absl::Status& status, size_t full);

  KvStore& store_;
  PausePoints& pauses_;
  std::vector<ChunkKey> keys_;  // of the full chunks that are stored
  bool tail_stored_ = false;
  size_t retry_at_ = 0;     // full chunks there must be before StoreFull tries again
  size_t retry_after_ = 1;  // chunks between two tries; doubles with each refusal
  Counts counts_;
};

}  // namespace kvtier::examples
