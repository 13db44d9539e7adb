// What the client remembers of a reservation: above all the checksums of the blocks that were put
// into it.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/daemon_link.h"
#include "client/model_registry.h"

namespace kvtier {

// Thread-safe. Holds at most one checksum for each reserved block.
class ReservationRecord {
 public:
  struct Terms {
    std::shared_ptr<DaemonLink> link;
    uint64_t daemon_id = 0;
    std::shared_ptr<ModelRegistration> model;
    uint32_t chunk_count = 0;
    std::vector<uint32_t> planes;  // the reserved ones
  };
  explicit ReservationRecord(Terms terms);

  const Terms& terms() const { return terms_; }

  // INVALID_ARGUMENT names the block, the number and the limit.
  absl::Status CheckBlock(uint32_t chunk, uint32_t plane) const;

  void SetChecksum(uint32_t chunk, uint32_t plane, uint64_t checksum) ABSL_LOCKS_EXCLUDED(mutex_);
  // FAILED_PRECONDITION: the block was not put through this client yet.
  absl::StatusOr<uint64_t> Checksum(uint32_t chunk, uint32_t plane) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // These planes of the chunk are committed. True when nothing of the reservation is left to
  // commit.
  bool NoteCommitted(uint32_t chunk, const std::vector<uint32_t>& planes)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Block = std::pair<uint32_t, uint32_t>;  // chunk, plane

  const Terms terms_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<Block, uint64_t> checksums_ ABSL_GUARDED_BY(mutex_);
  uint64_t blocks_left_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvtier
