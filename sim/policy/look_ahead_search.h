// Window and share of the policy `sa` for a trace, by simulated annealing.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "sim/policy/attention_policies.h"

namespace kvtier::sim {

inline constexpr int kLookAheadTrials = 40;  // beside the start

// As arXiv 2508.13231 does it: from LookAhead's defaults, by up to three steps and three tenths at
// a time, at temperatures that fall from 100 ns by a twentieth each. `time_ns` simulates the trace;
// the best of what it was asked for is returned, the earliest of equals. Its errors end the search.
// A function of the seed and of what `time_ns` returns.
absl::StatusOr<LookAhead> AnnealLookAhead(
    uint64_t seed, const std::function<absl::StatusOr<int64_t>(const LookAhead&)>& time_ns);

}  // namespace kvtier::sim
