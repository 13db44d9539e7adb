// Improves a schedule whose tiers are full: one block comes in where another leaves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "tiering/bound/primal/path_prices.h"
#include "tiering/bound/primal/working_schedule.h"

namespace kvtier::bound {

struct ExchangeOptions {
  PriceWeights weights = {0.02, 0.02};  // of what has to get cheaper, as in local_search.h
  size_t passes = 2;
  size_t leavers_tried = 4;  // for each block that comes in
  // Ends when a pass gains less than this part of the time.
  double least_gain = 2e-5;
  uint64_t seed = 1;
};

// Where local search finds every tier full, each block in turn takes the path that would be
// cheapest if room cost its price and were there; then, until nothing is over capacity, blocks that
// lie there through the same phases without being read are drawn at random and take the cheapest
// path with room. What makes the whole dearer is undone. As there, the sum of time and priced part
// never grows, and room is kept. Returns the number of exchanges made.
size_t ImproveByExchange(WorkingSchedule& schedule, const PathPrices& prices,
                         const ExchangeOptions& options, const std::function<bool()>& go_on);

}  // namespace kvtier::bound
