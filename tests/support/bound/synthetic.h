// Seeded placement problems that look like sparse attention: a few blocks of many are read in every
// step, much the same ones as in the step before.
#pragma once

#include <cstdint>

#include "tiering/bound/instance.h"

namespace kvtier::test_support {

enum class SyntheticModel {
  kExclusive,   // one copy, in the GPU's memory or the host's, read in place
  kInclusive,   // the host always keeps a copy, so leaving the GPU's memory is free
  kThreeTiers,  // as inclusive, with a peer between the two
  kStream,      // misses flow over the link while the GPU computes; its own memory costs nothing
  kStrict,      // what is read must be in the GPU's memory before: each phase becomes two
};

// Scores are -`rank_exponent` x log(rank), ranks being a random order, plus a process with memory
// `persistence` from step to step and standard deviation `drift`, plus fresh noise of standard
// deviation `noise`, plus a boost for the newest eight blocks and the first one. In each step the
// blocks of each layer with the best scores are read, `read_share` of those that live.
struct SyntheticOptions {
  SyntheticModel model = SyntheticModel::kExclusive;
  uint32_t blocks = 2000;  // of all layers; a multiple of `layers`
  uint32_t steps = 200;
  uint32_t layers = 1;       // each step has this many phases, and a block is read in its layer's
  double read_share = 0.10;  // of a layer's living blocks, at least one
  double gpu_share = 0.12;   // of all bytes fit into the GPU's memory
  double peer_share = 0.06;  // and into the peer's, with three tiers
  double floor_share = 0;    // of the time the slow tier takes for all reads of a phase
  double growing_share = 0;  // of the blocks are born later, evenly over the steps
  uint32_t classes = 1;      // class c has (c + 1) x block_bytes
  uint64_t block_bytes = 1 << 20;
  uint64_t slow_rate = 50'000'000'000;  // bytes a second of the slowest tier; a peer has 3 times
  uint64_t gpu_rate = 400'000'000'000;  // that, unless it is the GPU's own
  double persistence = 0.95;
  double drift = 1;
  double noise = 0.25;
  double rank_exponent = 0.8;
  uint64_t seed = 1;
};

// One phase is a step's layer. States and option lists are those of docs/BOUND.md for blocks that
// are read at most once a phase. A strict phase is a stall, in which nothing is read and moves may
// run, and then the reads.
bound::Instance Synthetic(const SyntheticOptions& options);

}  // namespace kvtier::test_support
