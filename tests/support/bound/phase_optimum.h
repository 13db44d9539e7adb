// The least time of one phase when blocks' transitions are given and their bytes may be split.
#pragma once

#include <vector>

namespace kvtier::test_support {

// Seconds of each resource.
using Loads = std::vector<double>;

// Minimises the largest sum over `base` and, for each group, some mix of its options (each Loads of
// the same size). Every group has an option. Exact but for rounding: the simplex method with
// Bland's rule, which ends, on a linear program of a row for each resource and each group.
double LeastPhaseSeconds(const Loads& base, const std::vector<std::vector<Loads>>& groups);

}  // namespace kvtier::test_support
