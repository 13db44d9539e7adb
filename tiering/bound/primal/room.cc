#include "tiering/bound/primal/room.h"

#include <algorithm>

namespace kvtier::bound {

Room::Room(const Instance& instance)
    : phases_(instance.phase_count), runs_((phases_ + kRun - 1) / kRun) {
  const size_t tiers = instance.tiers.size();
  uint64_t all = 0;
  for (size_t block = 0; block < instance.block_count(); ++block) {
    all += instance.ClassOf(block).bytes;
  }
  free_.resize(tiers * phases_);
  added_.resize(tiers * runs_);
  least_.resize(tiers * runs_);
  for (size_t j = 0; j < tiers; ++j) {
    const uint64_t capacity = instance.tiers[j].capacity_bytes;
    limited_.push_back(capacity < all);
    std::fill_n(free_.begin() + static_cast<ptrdiff_t>(j * phases_), phases_,
                static_cast<int64_t>(capacity));
    std::fill_n(least_.begin() + static_cast<ptrdiff_t>(j * runs_), runs_,
                static_cast<int64_t>(capacity));
  }
}

// Within one run.
void Room::AddSome(size_t tier, uint32_t begin, uint32_t end, int64_t bytes) {
  const uint32_t run = begin / kRun;
  int64_t* const free = &free_[tier * phases_];
  for (uint32_t phase = begin; phase < end; ++phase) free[phase] += bytes;
  const uint32_t run_end = std::min<uint32_t>((run + 1) * kRun, static_cast<uint32_t>(phases_));
  int64_t least = std::numeric_limits<int64_t>::max();
  for (uint32_t phase = run * kRun; phase < run_end; ++phase) least = std::min(least, free[phase]);
  least_[tier * runs_ + run] = least + added_[tier * runs_ + run];
}

void Room::Add(size_t tier, uint32_t begin, uint32_t end, int64_t bytes) {
  while (begin < end) {
    const uint32_t run = begin / kRun;
    const uint32_t run_end = std::min<uint32_t>((run + 1) * kRun, static_cast<uint32_t>(phases_));
    const uint32_t stop = std::min(end, run_end);
    if (begin == run * kRun && stop == run_end) {
      added_[tier * runs_ + run] += bytes;
      least_[tier * runs_ + run] += bytes;
    } else {
      AddSome(tier, begin, stop, bytes);
    }
    begin = stop;
  }
}

uint32_t Room::FirstBelow(size_t tier, uint32_t begin, uint32_t end, int64_t bytes) const {
  while (begin < end) {
    const uint32_t run = begin / kRun;
    const uint32_t stop = std::min(end, (run + 1) * kRun);
    if (least_[tier * runs_ + run] < bytes) {
      const int64_t wanted = bytes - added_[tier * runs_ + run];
      for (uint32_t phase = begin; phase < stop; ++phase) {
        if (free_[tier * phases_ + phase] < wanted) return phase;
      }
    }
    begin = stop;
  }
  return kNone;
}

uint32_t Room::LastBelow(size_t tier, uint32_t begin, uint32_t end, int64_t bytes) const {
  while (begin < end) {
    const uint32_t run = (end - 1) / kRun;
    const uint32_t stop = std::max(begin, run * kRun);
    if (least_[tier * runs_ + run] < bytes) {
      const int64_t wanted = bytes - added_[tier * runs_ + run];
      for (uint32_t phase = end; phase > stop; --phase) {
        if (free_[tier * phases_ + phase - 1] < wanted) return phase - 1;
      }
    }
    end = stop;
  }
  return kNone;
}

}  // namespace kvtier::bound
