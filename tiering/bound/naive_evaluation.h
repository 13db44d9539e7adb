// The bound by the simplest means: one phase after another, for each block. Slow, and the measure
// of what is fast.
#pragma once

#include <vector>

#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"

namespace kvtier::bound {

struct NaiveValue {
  long double bound_seconds = 0;  // D(p, lambda) of docs/BOUND.md
  // What each block's cheapest path costs at these prices, in seconds.
  std::vector<long double> block_seconds;
};

// The Lagrangian dual at these prices, which obey what prices.h says and have the instance's
// phases, resources and tiers. Exact but for the rounding of long double. Takes time in proportion
// to the phases that blocks live in.
NaiveValue EvaluateNaively(const Instance& instance, const Prices& prices);

}  // namespace kvtier::bound
