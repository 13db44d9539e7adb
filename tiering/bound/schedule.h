// A feasible answer to an instance: which copies exist when, and how each phase's work is split.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "tiering/bound/option_table.h"

namespace kvtier::bound {

// From the start of `phase` on, the block is in `state`.
struct StateChange {
  uint32_t phase = 0;
  StateIndex state = 0;
  friend bool operator==(const StateChange& a, const StateChange& b) = default;
};

// Of the blocks of `block_class` that in `phase` go from `from` to `to` with `accesses` accesses,
// so many take option number `option` of the table's list; in units of 2^-20 blocks, and the parts
// of one such group sum to its blocks. A block's bytes may come in several ways, but it is computed
// again as a whole or not at all: parts of options that compute equally often sum to whole blocks.
// Groups that are not named take option 0.
struct OptionPart {
  uint32_t phase = 0;
  uint32_t block_class = 0;
  uint32_t accesses = 0;
  StateIndex from = 0;
  StateIndex to = 0;
  uint16_t option = 0;
  uint64_t part = 0;
};
inline constexpr uint64_t kWholePart = uint64_t{1} << 20;

// Changes of block b are changes[first_change[b] .. first_change[b + 1]), ascending by phase, the
// first at its birth; none is at or behind its death, and the last state counts to the end
// (docs/BOUND.md). Plain data; schedule_checker.h says whether it is feasible and what it takes.
struct Schedule {
  std::vector<uint64_t> first_change;
  std::vector<StateChange> changes;
  std::vector<OptionPart> parts;  // ascending by phase

  absl::Span<const StateChange> Changes(size_t block) const {
    return absl::MakeConstSpan(changes).subspan(first_change[block],
                                                first_change[block + 1] - first_change[block]);
  }
};

}  // namespace kvtier::bound
