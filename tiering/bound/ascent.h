// Better prices by accelerated projected ascent on the smoothed bound, cooling down.
#pragma once

#include <cstdint>
#include <functional>

#include "tiering/bound/evaluation.h"
#include "tiering/bound/price_space.h"
#include "tiering/bound/prices.h"

namespace kvtier::bound {

struct AscentOptions {
  uint32_t iterations = 300;
  // In PriceSpace::unit(); the temperature falls geometrically from the first to the last.
  double first_temperature = 0.2;
  double last_temperature = 0.003;
  // The true bound is evaluated once in so many iterations, and after the last.
  uint32_t hard_every = 5;
  // The part of the time for it that has passed, at most 1, where time may be what ends it: at 1
  // it ends, having cooled down as by its last iteration. Nothing depends on it while the
  // iterations are ahead of the time. May be empty.
  std::function<double()> spent{};
};

struct Priced {
  Prices prices;
  double bound = 0;  // seconds, Evaluator::Hard of the prices
};

struct AscentProgress {
  uint32_t iteration = 0;  // from 1
  uint32_t iterations = 0;
  double bound = 0;  // seconds, the best so far of the instance that is being ascended
};
// After each smoothed evaluation; false ends the ascent. May be empty.
using AscentCallback = std::function<bool(const AscentProgress&)>;

// The best prices met, `start` included. FISTA (Beck, Teboulle, "A fast iterative
// shrinkage-thresholding algorithm", 2009) with backtracking, and restarted where its momentum
// leads downhill (O'Donoghue, Candes, 2015). Deterministic; the same for every number of lanes.
// Where the evaluator is stopped it ends with the best that was evaluated as a whole.
Priced Ascend(Evaluator& evaluator, const Prices& start, const AscentOptions& options,
              const AscentCallback& progress);

}  // namespace kvtier::bound
