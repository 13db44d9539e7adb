#include "sim/policy/look_ahead_search.h"

#include <algorithm>
#include <cmath>

#include "tiering/base/rng.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {
namespace {

constexpr double kFirstTemperatureNs = 100;
constexpr double kCooling = 0.95;
constexpr uint32_t kWindowStep = 3;
constexpr uint32_t kShareStepMilli = 300;
constexpr uint32_t kShareMinMilli = 100;
constexpr uint32_t kShareMaxMilli = 1000;

// Within `step` of `value`, and in [min, max].
uint32_t Near(uint32_t value, uint32_t step, uint32_t min, uint32_t max, Rng& rng) {
  const auto moved = static_cast<int64_t>(value + rng.Below(2 * uint64_t{step} + 1)) - step;
  return static_cast<uint32_t>(std::clamp<int64_t>(moved, min, max));
}

}  // namespace

absl::StatusOr<LookAhead> AnnealLookAhead(
    uint64_t seed, const std::function<absl::StatusOr<int64_t>(const LookAhead&)>& time_ns) {
  Rng rng(seed);
  LookAhead best, at;
  KVTIER_ASSIGN_OR_RETURN(int64_t at_ns, time_ns(at));
  int64_t best_ns = at_ns;
  double temperature = kFirstTemperatureNs;
  for (int trial = 0; trial < kLookAheadTrials; ++trial, temperature *= kCooling) {
    const LookAhead next{
        .window_steps = Near(at.window_steps, kWindowStep, 1, kNever, rng),
        .share_milli = Near(at.share_milli, kShareStepMilli, kShareMinMilli, kShareMaxMilli, rng)};
    KVTIER_ASSIGN_OR_RETURN(const int64_t next_ns, time_ns(next));
    const double worse_ns = static_cast<double>(next_ns - at_ns);
    if (rng.Unit() >= std::exp(-worse_ns / temperature)) continue;
    at = next;
    at_ns = next_ns;
    if (at_ns >= best_ns) continue;
    best = at;
    best_ns = at_ns;
  }
  return best;
}

}  // namespace kvtier::sim
