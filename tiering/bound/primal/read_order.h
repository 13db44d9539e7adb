// Which states serve reads fastest.
#pragma once

#include <cstddef>
#include <vector>

#include "tiering/bound/instance.h"

namespace kvtier::bound {

// For each table its states, the one in which a block is read in the least time first: by the
// slowest resource of its best option, for a block that stays where it is; a state that serves no
// read comes last. Of equals the one with fewer copies, then the lower number, is first.
std::vector<std::vector<StateIndex>> ReadOrder(const Instance& instance);

}  // namespace kvtier::bound
