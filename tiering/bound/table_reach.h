// Which states a block can be in at all, whatever it costs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tiering/bound/option_table.h"

namespace kvtier::bound {

// The most units that an option of the table loads for a byte, or times that it recomputes.
uint64_t LargestCount(const OptionTable& table);

// Immutable; safe to read from any thread.
class TableReach {
 public:
  explicit TableReach(const OptionTable& table);

  // Where a block can be one phase with `accesses` (at most the table's) later.
  StateSet Step(StateSet states, size_t accesses) const { return Follow(steps_[accesses], states); }
  // Where it can be that many phases without accesses later.
  StateSet Idle(StateSet states, uint32_t phases) const;

 private:
  // [from] = the states that can follow.
  using Relation = std::array<StateSet, kStatesMax>;
  static StateSet Follow(const Relation& relation, StateSet states);

  std::vector<Relation> steps_;    // by accesses
  std::array<Relation, 32> idle_;  // of 2^i phases
};

}  // namespace kvtier::bound
