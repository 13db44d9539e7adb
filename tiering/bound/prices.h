// Multipliers of the bound: what a resource's time and a tier's room are worth, by phase.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace kvtier::bound {

// Any prices give a valid bound (docs/BOUND.md) that obey: `share` >= 0, summing to at most 1 in
// each phase; `room` >= 0. What breaks that by rounding is mended where a bound is certified.
struct Prices {
  Prices() = default;
  Prices(uint32_t phases, size_t resources, size_t tiers)
      : phase_count(phases),
        resource_count(resources),
        tier_count(tiers),
        share(phases * resources),
        room(phases * tiers) {}

  uint32_t phase_count = 0;
  size_t resource_count = 0;
  size_t tier_count = 0;
  std::vector<double> share;  // p, [phase][resource]
  std::vector<double> room;   // lambda, [phase][tier], seconds for a byte at the phase's start

  absl::Span<double> Share(uint32_t phase) {
    return absl::MakeSpan(share).subspan(phase * resource_count, resource_count);
  }
  absl::Span<const double> Share(uint32_t phase) const {
    return absl::MakeConstSpan(share).subspan(phase * resource_count, resource_count);
  }
  absl::Span<double> Room(uint32_t phase) {
    return absl::MakeSpan(room).subspan(phase * tier_count, tier_count);
  }
  absl::Span<const double> Room(uint32_t phase) const {
    return absl::MakeConstSpan(room).subspan(phase * tier_count, tier_count);
  }
};

}  // namespace kvtier::bound
