// Figures `sim_requests_one_tier`, `sim_requests_two_tiers` and `sim_attention`: what a simulation
// with all its checks costs by access of a block.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/figure.h"

namespace kvtier::bench {

struct SimFigureOptions {
  uint64_t requests = 4'000;
  uint32_t steps = 100;  // of attention
  uint32_t runs = 11;    // of each figure, in turn with the ceiling
  uint64_t seed = 1;
};

// One thread, policy lru, processor time. Requests are made-up chats, with room in DRAM for half of
// their chunks; with two tiers, for an eighth as much in HBM as well, so that nearly each access
// comes with a move. Attention reads a tenth of 32 planes, of which a quarter fits HBM. Ceiling: a
// pass over the accesses that looks each block up in a hash table of numbers. INVALID_ARGUMENT:
// options out of range.
absl::StatusOr<std::vector<Figure>> SimFigures(const SimFigureOptions& options);

}  // namespace kvtier::bench
