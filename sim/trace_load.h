// More of the same traffic.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "sim/trace.h"

namespace kvtier::sim {

inline constexpr uint32_t kLoadMax = 64;

// As if `load` populations sent the trace's requests at the same times, each with prompts of its
// own: no block of one is a block of another, so there is `load` times as much to compute and to
// keep. Of a trace of sessions there are `load` times as many; to run so many more at a time is for
// the caller to say. INVALID_ARGUMENT: load is not 1 to kLoadMax, or there would be more requests
// or sessions than a trace may have.
absl::StatusOr<Trace> WithLoad(const Trace& trace, uint32_t load);

}  // namespace kvtier::sim
