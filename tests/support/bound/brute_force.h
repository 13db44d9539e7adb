// The least time that any schedule of a tiny problem takes, by trying all joint placements.
#pragma once

#include "tiering/bound/instance.h"

namespace kvtier::test_support {

// In seconds; infinity if no placement keeps to the capacities. Whole blocks are in states, but in
// each phase every block's bytes are split over its options in the best way, so that it is exact
// for schedules as schedule.h has them. Splitting a block's bytes over states as well can be faster
// still: the linear program of bound_lp.h is the measure for that. Takes only a few blocks: the
// product of the states' numbers is at most 4096.
double LeastSeconds(const bound::Instance& instance);

}  // namespace kvtier::test_support
