// Keeps what is read soonest: Belady's rule, phase by phase.
#pragma once

#include <functional>
#include <vector>

#include "tiering/bound/instance.h"
#include "tiering/bound/primal/phase_readers.h"
#include "tiering/bound/primal/working_schedule.h"

namespace kvtier::bound {

// At each phase's start, whatever was just born or read may be in its fastest state (read_order.h),
// and what is read farthest in the future falls to slower states until every tier holds what it
// can. Nothing moves up without a read, but for blocks that could not be read where they are. Where
// all blocks are alike and only reads outside one tier take time, no schedule has fewer of them
// (Belady 1966, in batches and with bypass). Paths by block; empty if some block finds no legal
// state with room, or once `go_on`, asked before each phase, has returned false.
std::vector<Path> BatchMin(const Instance& instance, const PhaseReaders& readers,
                           const std::function<bool()>& go_on);

}  // namespace kvtier::bound
