// Segments of one pool and their size classes. Internal to the slot allocator.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "tiering/base/check.h"
#include "tiering/memory/slot_allocator.h"

namespace kvtier {

inline constexpr uint32_t kNoMember = 0xffffffffu;
// Stands in a segment's owners for a retired slot; no row has this number.
inline constexpr RowIndex kRetiredSlot = kNoRow - 1;

struct SlotAllocator::Segment {
  // Null when the segment is empty or not taken from the pool.
  SizeClass* size_class = nullptr;
  uint32_t ordinal = 0;  // within its class
  uint32_t slot_count = 0;
  uint32_t used = 0;
  uint32_t retired = 0;  // of those
  // No run is longer. Raised exactly, lowered only when a search finds less.
  uint32_t longest_max = 0;
  bool taken = false;
  TenantId tenant;  // while it is taken
  // Of an inbox; stay while it waits for its writer.
  ShmClientId writer;
  bool granted = false;
  bool sealed = false;
  // The rest describes free slots only, so an empty segment keeps it for its next user of this
  // size.
  int64_t slot_bytes = 0;
  FreeSlots free;
  std::vector<uint16_t> runs;    // by run class: how many; at most half the slots
  std::vector<RowIndex> owners;  // by slot

  bool draining() const { return used > 0 && retired == used; }
};

struct SlotAllocator::SizeClass {
  ClassKey key;
  uint64_t free_slots = 0;
  uint64_t retired_slots = 0;
  uint32_t segment_count = 0;
  uint32_t draining = 0;          // of those, whose used slots are all retired
  std::vector<uint32_t> members;  // by ordinal: a segment, or kNoMember
  std::vector<uint32_t> vacant;   // ordinals to use again
  // By run class: the members, by ordinal, that have such a run, and which of the sets are not
  // empty.
  std::array<IndexSet, kRunClasses> with_run;
  std::array<uint64_t, 2> nonempty{};

  void Mark(uint32_t run_class, uint32_t ordinal) {
    with_run[run_class].Add(ordinal);
    nonempty[run_class / 64] |= uint64_t{1} << run_class % 64;
  }
  void Unmark(uint32_t run_class, uint32_t ordinal) {
    with_run[run_class].Remove(ordinal);
    if (with_run[run_class].empty()) nonempty[run_class / 64] &= ~(uint64_t{1} << run_class % 64);
  }
  // The first run class at or after `from` that some member has; kRunClasses when none does.
  uint32_t NextClass(uint32_t from) const {
    if (from < 64) {
      const uint64_t low = nonempty[0] >> from;
      if (low != 0) return from + static_cast<uint32_t>(__builtin_ctzll(low));
      from = 64;
    }
    const uint64_t high = from < 128 ? nonempty[1] >> (from - 64) : 0;
    return high != 0 ? from + static_cast<uint32_t>(__builtin_ctzll(high)) : kRunClasses;
  }
  uint32_t LastClass() const {
    if (nonempty[1] != 0) return 127 - static_cast<uint32_t>(__builtin_clzll(nonempty[1]));
    KVTIER_CHECK(nonempty[0] != 0);
    return 63 - static_cast<uint32_t>(__builtin_clzll(nonempty[0]));
  }
};

}  // namespace kvtier
