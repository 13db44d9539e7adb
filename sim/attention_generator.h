// Synthetic attention traces: skewed importance that drifts, recent blocks and sinks.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sim/attention_trace.h"

namespace kvtier::sim {

// The score of a block in a step is
//     -rank_exponent x ln(rank) + drift x a + noise x e + recency + sink:
// ranks are a random order of each plane's blocks; `a` is a process with memory `persistence` from
// step to step, and `e` is fresh, both with mean 0 and variance 1; the newest and the first blocks
// have a boost. In each step and plane the `read_share` best are read, one at least. Shares and
// factors are in thousandths, so that all is computed in whole numbers.
struct AttentionOptions {
  AttentionGeometry geometry;
  uint32_t read_milli = 100;
  uint32_t rank_exponent_milli = 800;
  uint32_t persistence_milli = 950;
  uint32_t drift_milli = 1000;
  uint32_t noise_milli = 500;
  uint32_t recent_blocks = 8;
  uint32_t sink_blocks = 1;
  uint64_t seed = 0;
};

// The bytes of a file; a function of the options, on any machine. Its provenance says the options.
// INVALID_ARGUMENT: as CheckGeometry, or a number beyond its limit. CANCELLED and the like: what
// `check`, called once a step, returned.
absl::StatusOr<std::string> GenerateAttentionTrace(const AttentionOptions& options,
                                                   const std::function<absl::Status()>& check);

}  // namespace kvtier::sim
