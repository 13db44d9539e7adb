// The last part of a bound: steps along its own slope, not a smoothed one's.
#pragma once

#include <cstdint>

#include "tiering/bound/ascent.h"
#include "tiering/bound/evaluation.h"

namespace kvtier::bound {

// The best prices met in so many evaluations, `start` included. Each step is to where the bound
// would reach a target a little above the best, could it be as high as its slope says (Polyak,
// "Minimization of unsmooth functionals", 1969), or as the slopes of evaluations before say, all of
// them mixed into one that is remixed with the newest so that the step is the longest (Kiwiel, "The
// efficiency of subgradient projection methods", 1996). A target further off than can be reached
// is halved, and it goes on from the best; one that is reached is doubled. Deterministic; the same
// for every number of lanes. `start.bound` is Hard of its prices; false from `progress`, asked
// before each evaluation, ends it, and so does an evaluation that is stopped.
Priced Polish(Evaluator& evaluator, Priced start, uint32_t iterations,
              const AscentCallback& progress);

}  // namespace kvtier::bound
