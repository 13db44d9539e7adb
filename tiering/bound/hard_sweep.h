// Cheapest paths of all blocks of a cost group.
#pragma once

#include <cstdint>
#include <vector>

#include "tiering/base/executor.h"
#include "tiering/bound/cost_group.h"
#include "tiering/bound/evaluation.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"

namespace kvtier::bound {

// Memory that sweeps use again.
struct HardScratch {
  struct Lane {
    std::vector<uint64_t> bytes;                // [entry][from][to] of blocks that take it
    std::vector<unsigned __int128> recomputed;  // [phase] units
    std::vector<uint32_t> entries;              // that one block goes through
    // [step] four bits for each state behind it: the best state before. Eight have room in 32 bits.
    std::vector<uint32_t> froms;
    std::vector<uint64_t> wide_froms;
  };
  std::vector<double> cost;          // [entry][from][to] seconds a byte
  std::vector<uint8_t> middle;       // [entry][from][to] state between the parts of a product
  std::vector<double> item_seconds;  // by piece of work
  std::vector<Lane> lanes;
};

// Sum over the group's blocks of bytes x cost of a cheapest path, in seconds. Adds what the paths
// load and occupy to `evaluation` unless it is null. `unit_prices` is UnitPrices of the same.
double HardSweep(const Instance& instance, const CostGroup& group, const Prices& prices,
                 const std::vector<double>& unit_prices, Executor& executor, HardScratch& scratch,
                 Evaluation* evaluation);

}  // namespace kvtier::bound
