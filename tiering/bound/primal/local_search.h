// Improves a schedule by finding one block after another a better way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "tiering/bound/primal/path_prices.h"
#include "tiering/bound/primal/working_schedule.h"

namespace kvtier::bound {

struct LocalSearchOptions {
  // They lead off plateaus, on which what is saved shows only when several blocks have moved.
  PriceWeights weights = {0.02, 0.02};
  size_t passes = 8;
  // Ends when a pass gains less than this part of the time.
  double least_gain = 1e-4;
};

// Each pass takes every block out and puts it back by its cheapest path (router.h), if that is
// cheaper: the sum of time and the priced part never grows, and what had room has room. Every block
// has a path. `go_on` is asked now and then; false ends the search. Returns the number of paths
// changed.
size_t ImproveLocally(WorkingSchedule& schedule, const PathPrices& prices,
                      const LocalSearchOptions& options, const std::function<bool()>& go_on);

}  // namespace kvtier::bound
