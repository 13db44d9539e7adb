// A part of the blocks on a machine as much smaller.
#pragma once

#include <cstdint>

#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"

namespace kvtier::bound {

struct BlockSample {
  Instance instance;
  double share = 1;  // of the bytes of all blocks that are in the sample
};

// One block at random out of each run of `stride` consecutive ones; capacities, rates and base
// loads are scaled by the share of the bytes that were taken. Its bound is near that of all blocks
// but proves nothing about it; its prices, once lifted, do, as any do.
BlockSample SampleBlocks(const Instance& instance, uint32_t stride, uint64_t seed);

// Prices for all blocks: shares as they are; a byte's room is worth as much less as there is more
// of it.
Prices LiftFromSample(Prices prices, double share);

}  // namespace kvtier::bound
