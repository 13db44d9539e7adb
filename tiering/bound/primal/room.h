// Free bytes of tiers at phase starts, by phase, with the questions that a block looking for a way
// through them asks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "tiering/bound/instance.h"

namespace kvtier::bound {

// Kept in runs of phases with their least value, so that a question or a change costs a run's
// length and the number of runs. What is free may be below zero. Not thread-safe.
class Room {
 public:
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

  explicit Room(const Instance& instance);

  // Whether blocks can be too many for the tier at all.
  bool limited(size_t tier) const { return limited_[tier]; }

  int64_t Free(size_t tier, uint32_t phase) const {
    return free_[tier * phases_ + phase] + added_[tier * runs_ + phase / kRun];
  }
  // At the starts of phases [begin, end).
  void Add(size_t tier, uint32_t begin, uint32_t end, int64_t bytes);
  // The first and the last phase of [begin, end) with fewer than `bytes` free, or kNone.
  uint32_t FirstBelow(size_t tier, uint32_t begin, uint32_t end, int64_t bytes) const;
  uint32_t LastBelow(size_t tier, uint32_t begin, uint32_t end, int64_t bytes) const;

 private:
  static constexpr uint32_t kRun = 64;

  void AddSome(size_t tier, uint32_t begin, uint32_t end, int64_t bytes);

  size_t phases_;
  size_t runs_;
  std::vector<bool> limited_;
  // What is free in a phase is free_ + its run's added_; least_ includes added_.
  std::vector<int64_t> free_;
  std::vector<int64_t> added_;
  std::vector<int64_t> least_;
};

}  // namespace kvtier::bound
