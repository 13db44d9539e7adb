// Which slots of one segment are free: a bitmap in which runs of free slots are found a word at a
// time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tiering/base/bytes.h"
#include "tiering/base/copy_ref.h"

namespace kvtier {

// Side-by-side slots. Everywhere below a run is as long as it can be: used slots or the ends of the
// segment bound it.
struct SlotRun {
  uint32_t first = 0;
  uint32_t count = 0;
};

// Classes of run lengths: exact up to kExactRunMax, then four an octave, so that the shortest and
// the longest run of a segment are known to within a quarter.
inline constexpr uint32_t kExactRunMax = 64;
inline constexpr uint32_t kRunClasses = 97;

constexpr uint32_t RunClassOf(uint32_t count) {
  if (count <= kExactRunMax) return count - 1;
  const uint32_t octave = 31 - static_cast<uint32_t>(__builtin_clz(count));
  return 64 + (octave - 6) * 4 + (count >> (octave - 2) & 3);
}
// The shortest run of a class.
constexpr uint32_t RunClassMin(uint32_t run_class) {
  if (run_class < kExactRunMax) return run_class + 1;
  const uint32_t above = run_class - 64;
  const uint32_t min = (4 + above % 4) << (above / 4 + 4);
  return min > kExactRunMax ? min : kExactRunMax + 1;
}
static_assert(RunClassOf(CopyRef::kSlotsMax) == kRunClasses - 1);
static_assert(RunClassOf(65) == 64 && RunClassMin(64) == 65 && RunClassOf(80) == 65 &&
              RunClassMin(65) == 80);

// A set of numbers below 16,384 in two levels: finding the first one reads at most four words and
// one more. It takes memory up to the largest number it ever held.
class IndexSet {
 public:
  bool empty() const { return (nonzero_[0] | nonzero_[1] | nonzero_[2] | nonzero_[3]) == 0; }
  void Add(uint32_t index) {
    if (index / 64 >= words_.size()) words_.resize(index / 64 + 1);
    words_[index / 64] |= uint64_t{1} << index % 64;
    nonzero_[index / 4096] |= uint64_t{1} << index / 64 % 64;
  }
  void Remove(uint32_t index) {
    uint64_t& word = words_[index / 64];
    word &= ~(uint64_t{1} << index % 64);
    if (word == 0) nonzero_[index / 4096] &= ~(uint64_t{1} << index / 64 % 64);
  }
  bool Contains(uint32_t index) const {
    return index / 64 < words_.size() && (words_[index / 64] >> index % 64 & 1) != 0;
  }
  // The smallest member that is at least `from`; kEnd when there is none.
  static constexpr uint32_t kEnd = 1u << 14;
  uint32_t Next(uint32_t from) const;
  size_t bytes() const { return words_.capacity() * sizeof(uint64_t); }

 private:
  std::array<uint64_t, 4> nonzero_{};
  std::vector<uint64_t> words_;
};

// Not thread-safe. Deterministic.
class FreeSlots {
 public:
  FreeSlots() = default;
  // `count` free slots, at most CopyRef::kSlotsMax.
  explicit FreeSlots(uint32_t count);

  bool Contains(uint32_t slot) const { return (words_[slot / 64] >> slot % 64 & 1) != 0; }
  // Free slots directly before `slot`, and from `slot` on.
  uint32_t CountBefore(uint32_t slot) const;
  uint32_t CountFrom(uint32_t slot) const;

  // `run` is free, or part of a free run.
  void Take(SlotRun run);
  // `slot` is not free.
  void Put(uint32_t slot) {
    uint64_t& word = words_[slot / 64];
    word |= uint64_t{1} << slot % 64;
    any_[slot / 4096] |= uint64_t{1} << slot / 64 % 64;
    if (word == ~uint64_t{0}) all_[slot / 4096] |= uint64_t{1} << slot / 64 % 64;
    cursor_ = slot;
  }

  // A run of exactly `count` <= kExactRunMax slots. Aborts when there is none.
  SlotRun FindExact(uint32_t count);
  // A run of at least `min` >= kExactRunMax and at most `max` slots; an empty one when there is
  // none.
  SlotRun FindLong(uint32_t min, uint32_t max) const;

  // Bit i of the word: slot 64 * word + i is free.
  uint64_t word(uint32_t index) const { return words_[index]; }
  uint32_t words() const { return static_cast<uint32_t>(words_.size()); }
  size_t bytes() const { return words_.capacity() * sizeof(uint64_t); }
  // Aborts when a summary contradicts the bitmap.
  void CheckInvariants() const;

 private:
  // By 64 words of the bitmap: bit i says that word i has a free slot, or is free as a whole.
  std::array<uint64_t, 4> any_{};
  std::array<uint64_t, 4> all_{};
  std::vector<uint64_t> words_;
  // Where a search looks first: behind the slots taken last, or at the one freed last. Of runs that
  // are rare in a segment the newest is often the only one.
  uint32_t cursor_ = 0;
};

}  // namespace kvtier
