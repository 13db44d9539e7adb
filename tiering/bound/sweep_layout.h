// What sweeps over the blocks of a cost group share: where matrices stand, and a block's way
// through them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "tiering/base/check.h"
#include "tiering/bound/cost_group.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/phase_table.h"

namespace kvtier::bound {

// Numbers of matrices: first those of the table over phases without access, then of each phase one
// for each number of accesses and of recomputes.
struct SweepLayout {
  SweepLayout(const Instance& instance, const CostGroup& group)
      : table(instance.phase_count),
        accesses_max(group.accesses_max),
        variants(group.recomputes_max + 1) {}

  size_t entries() const {
    return table.entries() + size_t{table.phases()} * accesses_max * variants;
  }
  // `accesses` > 0. Those of more recomputes follow.
  size_t AccessEntry(uint32_t phase, uint32_t accesses) const {
    return table.entries() + (size_t{phase} * accesses_max + (accesses - 1)) * variants;
  }
  // Of a choice in a phase.
  size_t Entry(uint32_t phase, const Choice& choice) const {
    return choice.accesses == 0 ? table.Entry(0, phase)
                                : AccessEntry(phase, choice.accesses) + choice.recomputes;
  }

  PhaseTable table;
  uint32_t accesses_max = 0;
  uint32_t variants = 1;
};

// A block's life in order: gap(first, last) for the longest runs of phases without access,
// access(phase, times) for those with.
template <typename Gap, typename Access>
void WalkLife(const Instance& instance, size_t block, const Gap& gap, const Access& access) {
  uint32_t phase = instance.birth[block];
  const uint32_t* next = instance.access_phase.data() + instance.first_access[block];
  const uint32_t* const end = instance.access_phase.data() + instance.first_access[block + 1];
  while (next != end) {
    const uint32_t accessed = *next;
    uint32_t times = 1;
    while (++next != end && *next == accessed) ++times;
    if (phase < accessed) gap(phase, accessed - 1);
    access(accessed, times);
    phase = accessed + 1;
  }
  if (phase < instance.death[block]) gap(phase, instance.death[block] - 1);
}

// Calls run(width) with a constant at least the number of states; matrices are padded with states
// that nothing leads to or from.
template <typename Run>
auto WithWidth(size_t states, const Run& run) {
  switch (states) {
    case 1:
    case 2:
      return run(std::integral_constant<size_t, 2>());
    case 3:
      return run(std::integral_constant<size_t, 3>());
    case 4:
      return run(std::integral_constant<size_t, 4>());
    case 5:
    case 6:
    case 7:
    case 8:
      return run(std::integral_constant<size_t, 8>());
    default:
      KVTIER_CHECK(states <= kStatesMax);
      return run(std::integral_constant<size_t, kStatesMax>());
  }
}

}  // namespace kvtier::bound
