// What sweeps over the blocks of a cost group share: where matrices stand, and which of them a
// block goes through.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/types/span.h"
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

  bool IsAccess(uint32_t entry) const { return entry >= table.entries(); }
  // Of the entry of an access.
  uint32_t PhaseOf(uint32_t entry) const {
    return static_cast<uint32_t>((entry - table.entries()) / (size_t{accesses_max} * variants));
  }

  // What a block's life goes through, in order: of the longest runs of phases without access one
  // matrix or two of the table, of each phase with accesses that without recomputes. Held by
  // `entries`, which grows. Whether a run is empty, or one phase, decides what is kept of what was
  // written: nobody could foretell a branch on it.
  absl::Span<const uint32_t> LayOut(const Instance& instance, size_t block,
                                    std::vector<uint32_t>& entries) const {
    const auto accesses = instance.Accesses(block);
    const size_t most = 3 * accesses.size() + 2;
    if (entries.size() < most) entries.resize(2 * most);
    uint32_t* out = entries.data();
    uint32_t phase = instance.birth[block];
    const auto gap_until = [&](uint32_t end) {
      const uint32_t last = end - 1;
      const uint32_t level = PhaseTable::LevelOf(phase, last);
      out[0] = static_cast<uint32_t>(table.Entry(level, phase));
      out[1] = static_cast<uint32_t>(table.Entry(level, last));
      out += static_cast<size_t>(phase < end) + static_cast<size_t>(phase + 1 < end);
    };
    for (auto next = accesses.begin(); next != accesses.end();) {
      const uint32_t accessed = *next;
      uint32_t times = 1;
      while (++next != accesses.end() && *next == accessed) ++times;
      gap_until(accessed);
      *out++ = static_cast<uint32_t>(AccessEntry(accessed, times));
      phase = accessed + 1;
    }
    gap_until(instance.death[block]);
    return absl::MakeConstSpan(entries.data(), out);
  }

  PhaseTable table;
  uint32_t accesses_max = 0;
  uint32_t variants = 1;
};

// Calls visit(i) for each i below K in order, a small K without a loop: compilers leave those of
// three rounds as they are, which takes longer than what is in them.
template <size_t K, typename Visit>
void ForEach(const Visit& visit) {
  if constexpr (K <= 4) {
    [&]<size_t... I>(std::index_sequence<I...>) { (visit(I), ...); }
    (std::make_index_sequence<K>());
  } else {
    for (size_t i = 0; i < K; ++i) visit(i);
  }
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
