// Divides each phase's work among its options, for a whole schedule.
#pragma once

#include <cstdint>
#include <vector>

#include "tiering/base/executor.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/schedule.h"

namespace kvtier::bound {

struct SplitResult {
  double seconds = 0;  // of all phases, before parts are rounded to 2^-20 blocks
  // If parts of blocks could be computed again: what phase_cuts.h aims at.
  double divided_seconds = 0;
  // What each resource's time is worth then in each phase, [phase][resource]; see phase_split.h.
  std::vector<double> shares;
};

// Replaces the schedule's parts by those with which every phase ends soonest, or nearly so where
// many blocks may be computed again; see whole_split.h. The paths are legal. Where the executor was
// stopped, result and parts are of no use.
SplitResult SplitOptions(const Instance& instance, Schedule& schedule, Executor& executor);

}  // namespace kvtier::bound
