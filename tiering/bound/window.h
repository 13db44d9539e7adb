// A part of the horizon as a problem of its own.
#pragma once

#include <cstdint>

#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"

namespace kvtier::bound {

// Phases [first, end) alone, 0 <= first < end <= phase_count. Blocks that live across `first` start
// in any state, and all end in any: whatever a schedule of the whole does in these phases is
// feasible here, so the time it takes for them is at least this window's bound, and the bounds of
// windows that do not overlap sum to a bound of the whole. Blocks keep their order; those that do
// not live in the window are left out.
Instance Window(const Instance& instance, uint32_t first, uint32_t end);

// Copies a window's prices to where its phases are in the whole. Prices put together from all
// windows give at least the sum of their values: a path through the whole is a path through each of
// them, at the same cost in each.
void CopyPrices(const Prices& window, uint32_t first, Prices& whole);

// The other way: those of phases [first, end).
Prices PricesOf(const Prices& whole, uint32_t first, uint32_t end);

// For each class one behind all of them, at its number plus their count, that differs in that its
// blocks start in any state of their table.
void AddFreeStarts(Instance& instance);

}  // namespace kvtier::bound
