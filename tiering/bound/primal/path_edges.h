// What a block does in the phases of its life, as its path through the states says.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/schedule.h"

namespace kvtier::bound {

// Calls `edge(phase, accesses, from, to)`, ascending by phase, for each phase in which the block is
// read or goes to another state. In its life's other phases it stays where it is.
template <typename Edge>
void ForEachEdge(const Instance& instance, size_t block, absl::Span<const StateChange> path,
                 const Edge& edge) {
  const absl::Span<const uint32_t> accesses = instance.Accesses(block);
  size_t next = 0;
  const auto count_at = [&](uint32_t phase) {
    uint32_t count = 0;
    for (; next < accesses.size() && accesses[next] == phase; ++next) ++count;
    return count;
  };
  for (size_t i = 0; i < path.size(); ++i) {
    const bool last = i + 1 == path.size();
    // The phase that leads to the next state.
    const uint32_t leaves = last ? instance.death[block] : path[i + 1].phase - 1;
    while (next < accesses.size() && accesses[next] < leaves) {
      const uint32_t phase = accesses[next];
      edge(phase, count_at(phase), path[i].state, path[i].state);
    }
    if (!last) edge(leaves, count_at(leaves), path[i].state, path[i + 1].state);
  }
}

}  // namespace kvtier::bound
