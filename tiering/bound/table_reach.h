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

// Sets of states are bits: bit k is state k. Immutable; safe to read from any thread.
class TableReach {
 public:
  explicit TableReach(const OptionTable& table);

  // Where a block can be one phase with `accesses` (at most the table's) later.
  uint8_t Step(uint8_t states, size_t accesses) const { return Follow(steps_[accesses], states); }
  // Where it can be that many phases without accesses later.
  uint8_t Idle(uint8_t states, uint32_t phases) const;

 private:
  // [from] = the states that can follow.
  using Relation = std::array<uint8_t, kStatesMax>;
  static uint8_t Follow(const Relation& relation, uint8_t states);

  std::vector<Relation> steps_;    // by accesses
  std::array<Relation, 32> idle_;  // of 2^i phases
};

}  // namespace kvtier::bound
