#include "tiering/bound/primal/path_prices.h"

#include <algorithm>
#include <limits>

#include "tiering/base/check.h"

namespace kvtier::bound {

PathPrices::PathPrices(const Instance& instance, const Prices& prices)
    : instance_(&instance), phases_(instance.phase_count) {
  const size_t resources = instance.resources.size();
  const size_t tiers = instance.tiers.size();
  KVTIER_CHECK(prices.phase_count == phases_ && prices.resource_count == resources &&
               prices.tier_count == tiers);
  unit_price_.resize(phases_ * resources);
  for (size_t i = 0; i < unit_price_.size(); ++i) {
    unit_price_[i] =
        prices.share[i] / static_cast<double>(instance.resources[i % resources].units_per_second);
  }
  for (const OptionTable& table : instance.tables)
    states_ = std::max<size_t>(states_, table.state_count());
  room_sum_.assign(instance.tables.size() * states_ * (phases_ + 1), 0);
  for (size_t table = 0; table < instance.tables.size(); ++table) {
    const std::vector<TierSet>& states = instance.tables[table].states();
    for (size_t k = 0; k < states.size(); ++k) {
      double* const sum = &room_sum_[(table * states_ + k) * (phases_ + 1)];
      for (size_t phase = 0; phase < phases_; ++phase) {
        sum[phase + 1] = sum[phase];
        for (size_t j = 0; j < tiers; ++j) {
          if (((states[k] >> j) & 1) != 0) sum[phase + 1] += prices.room[phase * tiers + j];
        }
      }
    }
  }
}

double PathPrices::Edge(uint32_t block_class, uint32_t phase, size_t accesses, StateIndex from,
                        StateIndex to) const {
  const BlockClass& described = instance_->classes[block_class];
  const size_t resources = instance_->resources.size();
  const double* const price = &unit_price_[phase * resources];
  double least = std::numeric_limits<double>::infinity();
  for (const Option& option : instance_->tables[described.table].Options(accesses, from, to)) {
    double per_byte = 0;
    for (size_t r = 0; r < resources; ++r) per_byte += price[r] * option.per_byte[r];
    double seconds = per_byte * static_cast<double>(described.bytes);
    if (option.recomputes > 0) {
      seconds += price[instance_->compute_resource] * option.recomputes *
                 static_cast<double>(described.recompute_units);
    }
    least = std::min(least, seconds);
  }
  return least;
}

}  // namespace kvtier::bound
