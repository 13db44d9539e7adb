// The least time that any schedule of a tiny problem takes, by trying all joint placements.
#pragma once

#include <cstdint>

#include "tiering/bound/instance.h"

namespace kvtier::test_support {

enum class Recomputed : uint8_t {
  kDivided,  // any part of a block's bytes, which bounds have to stay below as well
  kWhole,    // a block or nothing of it, which is exact for schedules as schedule.h has them
};

// In seconds; infinity if no placement keeps to the capacities. Whole blocks are in states, but in
// each phase every block's bytes are split in the best way over its options, or over those that
// compute it equally often. Splitting a block's bytes over states as well can be faster still: the
// linear program of bound_lp.h is the measure for that. Takes only a few blocks: the product of the
// states' numbers is at most 4096.
double LeastSeconds(const bound::Instance& instance, Recomputed recomputed = Recomputed::kDivided);

}  // namespace kvtier::test_support
