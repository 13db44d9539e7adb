// The last part of a bound: steps along its own slope, not a smoothed one's.
#pragma once

#include <cstdint>

#include "tiering/bound/ascent.h"
#include "tiering/bound/evaluation.h"

namespace kvtier::bound {

// The best prices met in so many evaluations, `start` included. Each step is as long as would reach
// a target a little above the best bound if the bound were linear (Polyak, "Minimization of
// unsmooth functionals", 1969). A target that it comes no nearer to is halved, and it goes on from
// the best. Deterministic; the same for every number of lanes. `start.bound` is Hard of its prices;
// false from `progress`, asked before each evaluation, ends it.
Priced Polish(Evaluator& evaluator, Priced start, uint32_t iterations,
              const AscentCallback& progress);

}  // namespace kvtier::bound
