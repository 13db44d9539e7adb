// Goes through the phases once and moves what is worth moving at the bound's prices.
#pragma once

#include <functional>
#include <vector>

#include "tiering/bound/instance.h"
#include "tiering/bound/primal/path_prices.h"
#include "tiering/bound/primal/phase_cuts.h"
#include "tiering/bound/primal/phase_readers.h"
#include "tiering/bound/primal/working_schedule.h"

namespace kvtier::bound {

// A price-directed dive. What a block's rest of life costs from each state is known from the prices
// (cost_to_go.h). In each phase the blocks that are read, born or best moved then are candidates,
// those first that gain most by it for each byte; to make room, those that are least worth keeping
// leave (keep_order.h). A move is made if gain, less what is lost with those that leave, less what
// all of this costs the phase is above zero, or if the block could not be read otherwise; then
// something has to leave whatever it costs. What it costs the phase is the mean of what it adds to
// the phase's time by `cuts` and of its price: by the time alone several tiers came out worse, by
// the price alone strict reads. Takes time in proportion to accesses and phases, times the square
// of states and a logarithm, and longer where one large block makes many small ones leave.
// The search spends as long on one of its samples. Of seven synthetic problems of a thousand blocks
// or so (GapsStaySmall) it makes the best schedule of none; of the request trace of
// docs/PLANNING.md with 4 GiB it does.
//
// Paths by block, that are legal and keep to all capacities; empty if some block finds no state
// with room, or once `go_on`, asked now and then, has returned false.
std::vector<Path> DivePriced(const Instance& instance, const PathPrices& prices,
                             const PhaseCuts& cuts, const PhaseReaders& readers,
                             const std::function<bool()>& go_on);

}  // namespace kvtier::bound
