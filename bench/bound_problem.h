// The placement problems whose gap between bound and schedule is measured, by name.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sim/attention_instance.h"
#include "tiering/bound/instance.h"

namespace kvtier::bench {

// Synthetic attention (sim/attention_generator.h) on a machine whose own memory has 400 GB/s, a
// peer's 150 GB/s and DRAM 50 GB/s, each with a link as fast. Nothing but blocks loads it, except
// in strict phases, whose work takes a part of the time that DRAM takes for what is read.
struct BoundProblem {
  std::string name;
  uint32_t blocks = 0;  // at the end, of all layers
  uint32_t steps = 0;
  uint32_t layers = 1;       // above 1, a phase is a layer
  uint32_t read_milli = 0;   // of a layer's blocks, each step
  uint32_t gpu_milli = 120;  // of all bytes fit into the GPU's own memory
  uint32_t peer_milli = 0;   // and into the peer's; 0: there is none
  uint32_t floor_milli = 0;  // of the time that DRAM takes for a phase's reads
  bool inclusive = false;
  sim::AttentionMode mode = sim::AttentionMode::kInPlace;
  double gap_wanted = 0;      // at most
  double seconds_wanted = 0;  // of CPU, bound and schedule together; the time limit too
};

// In the order of the table.
const std::vector<BoundProblem>& BoundProblems();

// NOT_FOUND names those that are known.
absl::StatusOr<BoundProblem> FindBoundProblem(std::string_view name);

// A function of problem and seed. An error of `check`, asked once a step, ends it.
absl::StatusOr<bound::Instance> MakeBoundProblem(const BoundProblem& problem, uint64_t seed,
                                                 const std::function<absl::Status()>& check);

}  // namespace kvtier::bench
