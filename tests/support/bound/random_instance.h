// Small random placement problems of every kind, for tests that try many.
#pragma once

#include <array>
#include <cstdint>

#include "tiering/base/rng.h"
#include "tiering/bound/instance.h"

namespace kvtier::test_support {

enum class BoundModel : uint8_t {
  kExclusive,   // one copy, on the GPU or in DRAM behind a link
  kInclusive,   // DRAM keeps every copy
  kThreeTiers,  // DRAM keeps every copy; the GPU or a peer may have one too
  kStream,      // inclusive; only the link counts
  kStrict,      // inclusive; phases in pairs, a stall without accesses before each compute phase
  kRecompute,   // copies may be dropped, and blocks computed again
  kFourTiers,   // copies in any set of four tiers, in half of them also in none; one access at most
};
// Those of which all placements of a few blocks are soon tried; not kFourTiers.
inline constexpr std::array kBoundModels = {BoundModel::kExclusive,  BoundModel::kInclusive,
                                            BoundModel::kThreeTiers, BoundModel::kStream,
                                            BoundModel::kStrict,     BoundModel::kRecompute};
const char* NameOf(BoundModel model);

struct RandomSize {
  uint32_t blocks_max = 4;
  uint32_t phases_max = 5;    // strict instances have twice as many
  uint32_t accesses_max = 2;  // of a block in a phase
};

// Passes Check, and has a schedule that keeps to the capacities: the largest tier holds everything
// or copies may be dropped, and a strict instance's GPU holds what any phase reads. Classes, sizes,
// lives, start states, base loads, capacities and rates vary; numbers are small.
bound::Instance RandomInstance(BoundModel model, const RandomSize& size, Rng& rng);

}  // namespace kvtier::test_support
