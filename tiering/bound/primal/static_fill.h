// Gives every block one place for its life, the most read ones first.
#pragma once

#include <functional>

#include "tiering/bound/primal/path_prices.h"
#include "tiering/bound/primal/working_schedule.h"

namespace kvtier::bound {

// In the order of reads per byte and phase lived in, each block gets the state that adds least to
// the phases' times as they are then, so that tiers fill in balance; a block that can stay in no
// state with room takes its cheapest path (router.h). No block has a path yet. False if some block
// finds none, or once `go_on`, asked now and then, has returned false.
bool FillStatically(WorkingSchedule& schedule, const PathPrices& prices,
                    const std::function<bool()>& go_on);

}  // namespace kvtier::bound
