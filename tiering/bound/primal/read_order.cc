#include "tiering/bound/primal/read_order.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <tuple>

namespace kvtier::bound {
namespace {

double ReadSeconds(const Instance& instance, const BlockClass& block_class, StateIndex state) {
  const OptionTable& table = instance.tables[block_class.table];
  double best = std::numeric_limits<double>::infinity();
  if (table.accesses_max() == 0) return best;
  for (const Option& option : table.Options(1, state, state)) {
    double slowest = 0;
    for (size_t r = 0; r < instance.resources.size(); ++r) {
      double load = static_cast<double>(block_class.bytes) * option.per_byte[r];
      if (r == instance.compute_resource) {
        load += static_cast<double>(block_class.recompute_units) * option.recomputes;
      }
      slowest =
          std::max(slowest, load / static_cast<double>(instance.resources[r].units_per_second));
    }
    best = std::min(best, slowest);
  }
  return best;
}

}  // namespace

std::vector<std::vector<StateIndex>> ReadOrder(const Instance& instance) {
  std::vector<std::vector<StateIndex>> orders(instance.tables.size());
  for (const BlockClass& block_class : instance.classes) {
    std::vector<StateIndex>& order = orders[block_class.table];
    if (!order.empty()) continue;
    const std::vector<TierSet>& states = instance.tables[block_class.table].states();
    std::vector<double> seconds;
    for (StateIndex k = 0; k < static_cast<StateIndex>(states.size()); ++k) {
      order.push_back(k);
      seconds.push_back(ReadSeconds(instance, block_class, k));
    }
    std::sort(order.begin(), order.end(), [&](StateIndex a, StateIndex b) {
      return std::make_tuple(seconds[a], std::popcount(states[a]), a) <
             std::make_tuple(seconds[b], std::popcount(states[b]), b);
    });
  }
  return orders;
}

}  // namespace kvtier::bound
