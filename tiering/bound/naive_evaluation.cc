#include "tiering/bound/naive_evaluation.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "tiering/base/check.h"

namespace kvtier::bound {
namespace {

using Real = long double;
constexpr Real kForbidden = std::numeric_limits<Real>::infinity();

Real RoomCost(const Instance& instance, const Prices& prices, size_t block, uint32_t phase,
              StateIndex state) {
  Real per_byte = 0;
  for (size_t tier = 0; tier < instance.tiers.size(); ++tier) {
    if ((instance.TableOf(block).states()[state] >> tier & 1) != 0)
      per_byte += prices.Room(phase)[tier];
  }
  return per_byte * static_cast<Real>(instance.ClassOf(block).bytes);
}

Real OptionCost(const Instance& instance, const Prices& prices, size_t block, uint32_t phase,
                const Option& option) {
  const BlockClass& block_class = instance.ClassOf(block);
  Real cost = 0;
  for (size_t r = 0; r < instance.resources.size(); ++r) {
    Real units = static_cast<Real>(option.per_byte[r]) * static_cast<Real>(block_class.bytes);
    if (r == instance.compute_resource)
      units +=
          static_cast<Real>(option.recomputes) * static_cast<Real>(block_class.recompute_units);
    cost +=
        prices.Share(phase)[r] * units / static_cast<Real>(instance.resources[r].units_per_second);
  }
  return cost;
}

Real BlockCost(const Instance& instance, const Prices& prices, size_t block) {
  const OptionTable& table = instance.TableOf(block);
  std::array<Real, kStatesMax> cost;
  cost.fill(kForbidden);
  for (StateIndex state = 0; state < table.state_count(); ++state) {
    if ((instance.ClassOf(block).start_states >> state & 1) != 0) cost[state] = 0;
  }
  const absl::Span<const uint32_t> accesses = instance.Accesses(block);
  size_t access = 0;
  for (uint32_t phase = instance.birth[block]; phase < instance.death[block]; ++phase) {
    size_t count = 0;
    for (; access < accesses.size() && accesses[access] == phase; ++access) ++count;
    std::array<Real, kStatesMax> next;
    next.fill(kForbidden);
    for (StateIndex from = 0; from < table.state_count(); ++from) {
      if (cost[from] == kForbidden) continue;
      const Real here = cost[from] + RoomCost(instance, prices, block, phase, from);
      for (StateIndex to = 0; to < table.state_count(); ++to) {
        for (const Option& option : table.Options(count, from, to))
          next[to] = std::min(next[to], here + OptionCost(instance, prices, block, phase, option));
      }
    }
    cost = next;
  }
  return *std::min_element(cost.begin(), cost.end());
}

}  // namespace

NaiveValue EvaluateNaively(const Instance& instance, const Prices& prices) {
  KVTIER_CHECK(prices.phase_count == instance.phase_count &&
               prices.resource_count == instance.resources.size() &&
               prices.tier_count == instance.tiers.size());
  NaiveValue value;
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
    for (size_t r = 0; r < instance.resources.size(); ++r)
      value.bound_seconds += prices.Share(phase)[r] *
                             static_cast<Real>(instance.BaseLoad(phase)[r]) /
                             static_cast<Real>(instance.resources[r].units_per_second);
    for (size_t tier = 0; tier < instance.tiers.size(); ++tier)
      value.bound_seconds -=
          prices.Room(phase)[tier] * static_cast<Real>(instance.tiers[tier].capacity_bytes);
  }
  value.block_seconds.reserve(instance.block_count());
  for (size_t block = 0; block < instance.block_count(); ++block) {
    value.block_seconds.push_back(BlockCost(instance, prices, block));
    value.bound_seconds += value.block_seconds.back();
  }
  return value;
}

}  // namespace kvtier::bound
