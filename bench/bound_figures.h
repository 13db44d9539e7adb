// Figures `bound_value`, `bound_evaluation` and `bound_smoothed`: what the bound on placement costs
// at given prices, by access of the trace.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/figure.h"

namespace kvtier::bench {

struct BoundFigureOptions {
  uint32_t blocks = 20'000;
  uint32_t steps = 300;
  uint32_t runs = 51;  // of each figure, in turn with the ceiling
  uint64_t seed = 1;
};

// One thread, blocks with one copy in one of two tiers, a tenth of them read in each step, four of
// five of those in the next step as well. `_value`: the bound alone; `_evaluation`: with what it
// loads and occupies; `_smoothed`: the same of the smoothed bound. Ceiling: one pass over all
// accesses that looks up the four costs of each one's phase and adds the smallest.
// INVALID_ARGUMENT: options out of range.
absl::StatusOr<std::vector<Figure>> BoundFigures(const BoundFigureOptions& options);

}  // namespace kvtier::bench
