// Runs of consecutive phases as one: a smaller problem whose bound holds for the larger.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"

namespace kvtier::bound {

// Each `length` phases, counted from 0, become one, the last perhaps of fewer. It holds what its
// phases hold at its first one's start and loads what they load: any schedule of `instance` is
// feasible here and takes no more time, as a sum of maxima is at least the maximum of sums.
//  * Options are all sums of options along the states between, with the accesses spread over the
//    phases in any way.
//  * A block that is born inside a run lives from the next run's start on, in any state, and is not
//    accessed before. What dies inside a run lives to its end.
// RESOURCE_EXHAUSTED: a run has more than `accesses_max` accesses of one block, or the lists of
// options grow beyond kOptionsMax.
absl::StatusOr<Instance> MergePhases(const Instance& instance, uint32_t length,
                                     uint32_t accesses_max);

// Prices for the `phases` phases that were merged: shares are copied to each; a run's room price
// stands at its first phase, where its capacity does. Their value is at least that of `merged`.
Prices LiftFromMerged(const Prices& merged, uint32_t length, uint32_t phases);

}  // namespace kvtier::bound
