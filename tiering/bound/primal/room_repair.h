// Makes room where a schedule has more in a tier than fits.
#pragma once

#include <functional>

#include "tiering/bound/primal/path_prices.h"
#include "tiering/bound/primal/phase_readers.h"
#include "tiering/bound/primal/working_schedule.h"

namespace kvtier::bound {

// From the first phase to the last: while a tier is over its capacity at a phase's start, the block
// there with the longest gap between accesses around it goes another way, its cheapest (router.h)
// with room up to that phase. Every block has a path. False if some phase stays over capacity, or
// `go_on`, asked now and then, says so.
bool RepairRoom(WorkingSchedule& schedule, const PathPrices& prices, const PhaseReaders& readers,
                const std::function<bool()>& go_on);

}  // namespace kvtier::bound
