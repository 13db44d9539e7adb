// Slots whose block is gone while somebody may still read them, kept back until no open section can
// hold them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "tiering/base/bytes.h"
#include "tiering/base/copy_ref.h"
#include "tiering/base/ids.h"

namespace kvtier {

// Epochs: a section remembers the epoch at its entry; retiring a slot raises the epoch to E and
// tags the slot with it. A section entered at or after E resolved only what was published by then,
// so the slot is free once every open section's epoch is >= E. With no section open a retired slot
// is free at once. Not thread-safe. Deterministic. Sections never end by time. It holds a slot at
// most once, so the pools bound it; those who open sections bound their number.
class SlotQuarantine {
 public:
  explicit SlotQuarantine(size_t pool_count);

  // Enter, Exit and Retire take constant time. Ids are never zero. An id is used again only after
  // its place was used 2^40 times.
  SectionId Enter();
  // False when there is no such open section.
  bool Exit(SectionId section);
  size_t open_sections() const { return open_sections_; }

  // The slot must no longer be reachable by a new resolve.
  void Retire(CopyRef slot, Bytes slot_bytes);
  // Appends the slots that nobody can hold any more, in the order they were retired.
  void TakeFree(std::vector<CopyRef>& slots);
  // Bytes of the pool's slots retired and not taken. `pool` is below pool_count.
  Bytes retired(PoolId pool) const;
  // As allocated.
  Bytes metadata_bytes() const;

 private:
  // An id is a place in sections_ and, above that, how often the place was used. 2^24 open sections
  // is far more than an engine admits.
  static constexpr int kPlaceBits = 24;
  static constexpr uint32_t kNone = 0xffffffffu;
  struct Section {
    uint64_t epoch = 0;
    uint64_t uses = 0;
    uint32_t previous = kNone;
    uint32_t next = kNone;  // free places are linked by it alone
    bool open = false;
  };
  struct Retired {
    uint64_t epoch = 0;
    CopyRef slot;
    Bytes bytes;
  };

  // Open sections in the order they were entered, which is the order of their epochs: the first one
  // is the one that keeps the most back.
  std::vector<Section> sections_;
  uint32_t first_open_ = kNone;
  uint32_t last_open_ = kNone;
  uint32_t first_unused_ = kNone;
  size_t open_sections_ = 0;

  uint64_t epoch_ = 0;
  std::deque<Retired> retired_;       // epochs rise
  std::vector<Bytes> retired_bytes_;  // by pool
};

}  // namespace kvtier
