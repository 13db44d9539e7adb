// What the points of a plan cost, and which is the cheapest that is fast enough.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "sim/plan.h"

namespace kvtier::sim {

// Money a GiB, by tier; in what currency is the user's business.
using TierPrices = std::vector<std::pair<std::string, double>>;

// "hbm=100,dram=4.5": INVALID_ARGUMENT for a tier that the machine has not or that stands there
// twice, or a price that is no number from 0 to 1e9.
absl::StatusOr<TierPrices> ParseTierPrices(absl::string_view text, const Machine& machine);

// Of all tiers that have a price, whether they are varied or not.
double PriceOf(const TierPrices& prices, const Machine& machine);

// Indices of the cheapest points, the first of equals, of those with the largest load.
struct Cheapest {
  // Of those where a simulated policy that does not know the future takes at most the target, or a
  // machine without any cache; or, where no such policy was simulated, the best schedule does.
  std::optional<size_t> reached;
  // Of those whose bound allows it: with what is cheaper, every policy takes longer.
  std::optional<size_t> possible;
};
Cheapest FindCheapest(absl::Span<const PlanPoint> points, const TierPrices& prices,
                      double target_s);

}  // namespace kvtier::sim
