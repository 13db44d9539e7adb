#include "tiering/bound/table_reach.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvtier::bound {

uint64_t LargestCount(const OptionTable& table) {
  uint64_t most = 0;
  for (size_t accesses = 0; accesses <= table.accesses_max(); ++accesses) {
    for (StateIndex from = 0; from < table.state_count(); ++from) {
      for (StateIndex to = 0; to < table.state_count(); ++to) {
        for (const Option& option : table.Options(accesses, from, to)) {
          most = std::max<uint64_t>(most, option.recomputes);
          for (const uint16_t count : option.per_byte) most = std::max<uint64_t>(most, count);
        }
      }
    }
  }
  return most;
}

TableReach::TableReach(const OptionTable& table) : steps_(table.accesses_max() + 1), idle_{} {
  for (size_t accesses = 0; accesses <= table.accesses_max(); ++accesses) {
    for (StateIndex from = 0; from < table.state_count(); ++from) {
      for (StateIndex to = 0; to < table.state_count(); ++to) {
        if (!table.Options(accesses, from, to).empty())
          steps_[accesses][from] = static_cast<StateSet>(steps_[accesses][from] | 1u << to);
      }
    }
  }
  idle_[0] = steps_[0];
  for (size_t i = 1; i < idle_.size(); ++i) {
    for (size_t from = 0; from < kStatesMax; ++from)
      idle_[i][from] = Follow(idle_[i - 1], idle_[i - 1][from]);
  }
}

StateSet TableReach::Follow(const Relation& relation, StateSet states) {
  StateSet next = 0;
  for (size_t from = 0; from < kStatesMax; ++from) {
    if ((states >> from & 1) != 0) next = static_cast<StateSet>(next | relation[from]);
  }
  return next;
}

StateSet TableReach::Idle(StateSet states, uint32_t phases) const {
  for (size_t i = 0; phases != 0; ++i, phases >>= 1) {
    if ((phases & 1) != 0) states = Follow(idle_[i], states);
  }
  return states;
}

}  // namespace kvtier::bound
