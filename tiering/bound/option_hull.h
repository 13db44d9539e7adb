// Which of several options can be a minimum at all.
#pragma once

#include <vector>

#include "tiering/bound/option_table.h"

namespace kvtier::bound {

// Adds `option` unless one of `options` is nowhere above it, and takes out those that it is nowhere
// above. Returns whether it was added.
bool AddUndominated(std::vector<Option>& options, const Option& option);

// The same, and does not add what is nowhere below a mix of two that are there.
bool AddToHull(std::vector<Option>& options, const Option& option);

// Leaves out what is nowhere below a mix of two others that stay (exact arithmetic). At any prices
// the minimum over the result is that over all, and a mix of all loads at least what some mix of
// the result does. The result is in ascending order of its counts.
std::vector<Option> LowerHull(std::vector<Option> options);

}  // namespace kvtier::bound
