// What the client remembers of a reservation: above all the checksums of the blocks that were put
// into it, and where those lie that are written in place.
#pragma once

#include <cstddef>
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
#include "client/segment_map.h"

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
    // In place: addresses of the blocks, plane by plane within chunk by chunk, and the segments
    // that they are in. Empty: the bytes go by stream.
    std::vector<std::byte*> slots;
    std::vector<std::shared_ptr<const MappedSegment>> segments;
  };
  explicit ReservationRecord(Terms terms);

  const Terms& terms() const { return terms_; }
  bool in_place() const { return !terms_.slots.empty(); }

  // INVALID_ARGUMENT names the block, the number and the limit.
  absl::Status CheckBlock(uint32_t chunk, uint32_t plane) const;

  // Where a block lies that may still be written. FAILED_PRECONDITION: it is committed. Call
  // CheckBlock first, and only for a reservation in place.
  absl::StatusOr<std::byte*> Slot(uint32_t chunk, uint32_t plane) const ABSL_LOCKS_EXCLUDED(mutex_);
  // The same for a caller who will write there: the checksum is made from what lies there when it
  // is asked for, not from what was put before.
  absl::StatusOr<std::byte*> HandOut(uint32_t chunk, uint32_t plane) ABSL_LOCKS_EXCLUDED(mutex_);

  void SetChecksum(uint32_t chunk, uint32_t plane, uint64_t checksum) ABSL_LOCKS_EXCLUDED(mutex_);
  // FAILED_PRECONDITION: the block was neither put through this client nor handed out, or is
  // committed already.
  absl::StatusOr<uint64_t> Checksum(uint32_t chunk, uint32_t plane) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // These planes of the chunk are committed. True when nothing of the reservation is left to
  // commit.
  bool NoteCommitted(uint32_t chunk, const std::vector<uint32_t>& planes)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Block = std::pair<uint32_t, uint32_t>;  // chunk, plane
  enum class Stage : uint8_t { kPut, kHandedOut, kCommitted };
  struct State {
    Stage stage = Stage::kPut;
    uint64_t checksum = 0;  // of kPut
  };

  std::byte* SlotOf(uint32_t chunk, uint32_t plane) const;

  const Terms terms_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<Block, State> blocks_ ABSL_GUARDED_BY(mutex_);  // empty ones are not in it
  uint64_t blocks_left_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvtier
