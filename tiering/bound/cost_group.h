// Blocks whose bytes cost the same in phases that do not access them, and what options load.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"

namespace kvtier::bound {

// The choices of one table that differ only in which option is taken: between two states, with this
// many accesses and recomputes in a phase.
struct Choice {
  uint32_t accesses = 0;
  StateIndex from = 0;
  StateIndex to = 0;
  uint32_t recomputes = 0;  // times a block's own recompute price, on top of the options' costs
  uint32_t first_option = 0, end_option = 0;  // of CostGroup::options
};

// The blocks of one table. Costs are per byte, so that blocks of all sizes share them, and a
// recompute's is left to each block: only phases with its accesses have any. Immutable; safe from
// any thread.
struct CostGroup {
  struct Load {
    uint8_t resource = 0;
    double count = 0;
  };
  // Units that a byte loads, but for recomputes.
  struct PricedOption {
    uint32_t first_load = 0, end_load = 0;
  };

  const OptionTable* table = nullptr;
  std::vector<uint32_t> blocks;       // ascending
  std::vector<uint32_t> item_begins;  // of runs of `blocks` that are one piece of work, and the end
  uint32_t accesses_max = 0;          // in one phase, of any of the blocks
  uint32_t recomputes_max = 0;        // of any option
  double recompute_per_byte_max = 0;  // of any of the blocks
  // What a path's weight in a smoothed cost is multiplied with for each move in a phase without
  // access: accesses by phases of the blocks' lives. A block may move in any phase of a gap; with
  // full weight the mere number of phases would pay for moves that no cheap path makes, and long
  // gaps would drown what paths cost.
  double move_weight = 1;
  std::vector<Choice> choices;  // by accesses, from, to, recomputes
  std::vector<PricedOption> options;
  std::vector<Load> loads;

  // Of one byte that takes the option, each unit of a resource costing `unit_prices` seconds.
  double Cost(uint32_t option, const double* unit_prices) const {
    double cost = 0;
    for (uint32_t i = options[option].first_load; i < options[option].end_load; ++i) {
      cost += loads[i].count * unit_prices[loads[i].resource];
    }
    return cost;
  }
};

// Every block is in one group. Pieces of work depend on the instance alone.
std::vector<CostGroup> CostGroups(const Instance& instance);

// What a unit of each resource costs by phase: share / rate. [phase][resource].
std::vector<double> UnitPrices(const Instance& instance, const Prices& prices);

// Of a byte in each state of the table at the start of a phase.
double OccupancyPrice(TierSet state, const Prices& prices, uint32_t phase);

}  // namespace kvtier::bound
