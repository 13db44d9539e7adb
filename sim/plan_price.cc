#include "sim/plan_price.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "sim/policy/policy_factory.h"

namespace kvtier::sim {
namespace {

constexpr double kPriceMax = 1e9;
constexpr double kGib = 1 << 30;

// Whether an engine could do it within the target, as far as is known. Any can keep nothing.
bool Reaches(const PlanPoint& point, double target_s) {
  if (point.problem.uncached_s && *point.problem.uncached_s <= target_s) return true;
  bool any = false;
  for (const SimulationResult& result : point.policies) {
    if (KnowsFuture(result.policy)) continue;
    any = true;
    if (result.Seconds() <= target_s) return true;
  }
  return !any && point.run.best_feasible_s && *point.run.best_feasible_s <= target_s;
}

}  // namespace

absl::StatusOr<TierPrices> ParseTierPrices(absl::string_view text, const Machine& machine) {
  TierPrices prices;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> sides =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    const std::string tier(sides.first.substr(0, 80));
    if (!FindTier(machine, tier))
      return absl::InvalidArgumentError(
          absl::StrCat("--price: ", machine.name, " has no tier \"", tier, "\""));
    for (const auto& [name, price] : prices) {
      if (name == tier)
        return absl::InvalidArgumentError(absl::StrCat("--price: ", tier, " stands there twice"));
    }
    double price = 0;
    if (!absl::SimpleAtod(sides.second, &price) || !(price >= 0 && price <= kPriceMax)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--price: ", tier, " is \"", sides.second.substr(0, 40),
                       "\"; a number from 0 to ", kPriceMax, " for a GiB is needed"));
    }
    prices.emplace_back(tier, price);
  }
  return prices;
}

double PriceOf(const TierPrices& prices, const Machine& machine) {
  double sum = 0;
  for (const auto& [tier, price] : prices) {
    const std::optional<size_t> index = FindTier(machine, tier);
    if (index) sum += price * static_cast<double>(machine.tiers[*index].capacity_bytes) / kGib;
  }
  return sum;
}

Cheapest FindCheapest(absl::Span<const PlanPoint> points, const TierPrices& prices,
                      double target_s) {
  uint32_t load = 0;
  for (const PlanPoint& point : points) load = std::max(load, point.load);
  Cheapest cheapest;
  const auto take = [&](size_t index, std::optional<size_t>& best) {
    if (!best || PriceOf(prices, points[index].machine) < PriceOf(prices, points[*best].machine))
      best = index;
  };
  for (size_t i = 0; i < points.size(); ++i) {
    if (points[i].load != load) continue;
    if (Reaches(points[i], target_s)) take(i, cheapest.reached);
    if (points[i].run.lower_bound_s <= target_s) take(i, cheapest.possible);
  }
  return cheapest;
}

}  // namespace kvtier::sim
