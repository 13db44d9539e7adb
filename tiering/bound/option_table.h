// What a byte of a block may do in one phase, and what it loads: the edges of its state graph.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace kvtier::bound {

inline constexpr size_t kTiersMax = 4;
inline constexpr size_t kResourcesMax = 16;
inline constexpr size_t kStatesMax = 16;  // all sets of four tiers

// Bit j: tier j holds a copy. Zero: nobody does, and an access has to recompute the block.
using TierSet = uint8_t;
// Index into OptionTable::states().
using StateIndex = uint8_t;
// Bit k: state k of a table.
using StateSet = uint16_t;

// One way to make a transition: what it loads. All counts are small and exact.
struct Option {
  // Units of each resource for one byte of the block.
  std::array<uint16_t, kResourcesMax> per_byte{};
  // Times the block is recomputed; each loads Instance::compute_resource with the class's
  // recompute_units. Zero in phases without access.
  uint16_t recomputes = 0;
  friend bool operator==(const Option& a, const Option& b) = default;
};

// For each number of accesses in a phase (0 to accesses_max()) and each pair of states, the options
// to be in `from` at the start of the phase, in `to` at the start of the next, and to serve the
// accesses meanwhile. An empty list forbids the transition. Valid for a bound if every real
// sequence of operations loads at least a convex combination of the list (the closure rule of
// docs/BOUND.md). Immutable once built but for Add; safe to read from any thread.
class OptionTable {
 public:
  OptionTable() = default;
  // 1 to kStatesMax different states.
  OptionTable(std::vector<TierSet> states, size_t accesses_max);

  const std::vector<TierSet>& states() const { return states_; }
  StateIndex state_count() const { return static_cast<StateIndex>(states_.size()); }
  size_t accesses_max() const { return accesses_max_; }
  absl::Span<const Option> Options(size_t accesses, StateIndex from, StateIndex to) const {
    return lists_[(accesses * states_.size() + from) * states_.size() + to];
  }
  // No list holds the same option twice: adding one that is there does nothing.
  void Add(size_t accesses, StateIndex from, StateIndex to, const Option& option);

  friend bool operator==(const OptionTable& a, const OptionTable& b) = default;

 private:
  std::vector<TierSet> states_;
  size_t accesses_max_ = 0;
  std::vector<std::vector<Option>> lists_;
};

}  // namespace kvtier::bound
