// Sums over all paths of all blocks of a cost group, cheap paths counting most.
#pragma once

#include <cstdint>
#include <vector>

#include "tiering/base/executor.h"
#include "tiering/bound/cost_group.h"
#include "tiering/bound/evaluation.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"

namespace kvtier::bound {

// Memory that sweeps use again, in one kind of number.
template <typename Number>
struct SoftMemory {
  struct Lane {
    std::vector<int64_t> share;       // [entry][from][to], fixed point
    std::vector<int64_t> recomputed;  // [phase], fixed point of another scale
    std::vector<uint32_t> entries;    // that one block goes through
    std::vector<Number> values;       // [step][state], before the step
    std::vector<Number> factors;      // [step] what the values behind it were multiplied with
  };
  std::vector<Number> weight;        // [entry][from][to], up to the entry's scale
  std::vector<double> log_scale;     // [entry] log of what the weights are to be multiplied with
  std::vector<double> share;         // [entry][from][to] bytes
  std::vector<double> item_seconds;  // by piece of work
  std::vector<Lane> lanes;
};

struct SoftScratch {
  SoftMemory<double> usual;
  SoftMemory<long double> wide;
};

// Sum over the group's blocks of bytes x the smoothed cost of a byte, in seconds; adds the mean
// load and occupancy to `evaluation` unless it is null. See Evaluator::Soft; `unit_prices` is
// UnitPrices of the same.
//
// Weights of paths are summed as they are, with common factors taken out, so costs
// that differ by more than some 500 temperatures would vanish from a double where a path may yet
// need them; with such costs the sweep uses numbers of a wider range, slower. It does not cool
// below what those can hold, some 2500th of the difference.
double SoftSweep(const Instance& instance, const CostGroup& group, const Prices& prices,
                 const std::vector<double>& unit_prices, double temperature, Executor& executor,
                 SoftScratch& scratch, Evaluation* evaluation);

}  // namespace kvtier::bound
