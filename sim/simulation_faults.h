// What goes wrong in a simulation, drawn from its seed.
#pragma once

#include <cstdint>

#include "sim/simulated_engine.h"
#include "tiering/base/rng.h"

namespace kvtier::sim {

// Each "one in" of 0 never happens.
struct SimFaults {
  uint32_t fail_copy_one_in = 0;
  uint32_t slow_port_one_in = 0;  // phases: one port is slower, by a factor of up to 16, for it
  uint32_t lose_pool_one_in = 0;  // phases: one tier's contents are gone before it begins
  bool reorder = false;           // copies' completions come in a drawn order
};

// Before the first phase.
void StartFaults(const SimFaults& faults, SimulatedEngine& sim);
// Before each phase. Returns the tiers, bit by tier, that lost their contents.
uint32_t DrawFaults(const SimFaults& faults, Rng& rng, SimulatedEngine& sim);

}  // namespace kvtier::sim
