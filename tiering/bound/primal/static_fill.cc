#include "tiering/bound/primal/static_fill.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "tiering/bound/primal/move_costs.h"
#include "tiering/bound/primal/path_edges.h"
#include "tiering/bound/primal/router.h"

namespace kvtier::bound {
namespace {

constexpr size_t kFilledAtOnce = 256;

// What staying in a state adds to the phases' times, or infinity.
double StayCost(const WorkingSchedule& schedule, size_t block, StateIndex state) {
  const Instance& instance = schedule.instance();
  const uint32_t block_class = instance.block_class[block];
  const BlockClass& described = instance.classes[block_class];
  const double infinite = std::numeric_limits<double>::infinity();
  if (((described.start_states >> state) & 1) == 0) return infinite;
  if (schedule.cuts().Edge(block_class, 0, state, state) == nullptr) return infinite;
  const TierSet tiers = instance.TableOf(block).states()[state];
  for (size_t j = 0; j < instance.tiers.size(); ++j) {
    if (((tiers >> j) & 1) == 0 || !schedule.room().limited(j)) continue;
    if (schedule.room().FirstBelow(j, instance.birth[block], instance.death[block],
                                   static_cast<int64_t>(described.bytes)) != Room::kNone) {
      return infinite;
    }
  }
  double cost = 0;
  const StateChange whole[] = {{instance.birth[block], state}};
  ForEachEdge(instance, block, whole,
              [&](uint32_t phase, uint32_t accesses, StateIndex from, StateIndex to) {
                const double* const edge = schedule.cuts().Edge(block_class, accesses, from, to);
                cost += edge == nullptr ? infinite : schedule.Increase(phase, edge);
              });
  return cost;
}

}  // namespace

bool FillStatically(WorkingSchedule& schedule, const PathPrices& prices,
                    const std::function<bool()>& go_on) {
  const Instance& instance = schedule.instance();
  std::vector<double> reads(instance.block_count());
  for (size_t block = 0; block < reads.size(); ++block) {
    reads[block] = static_cast<double>(instance.Accesses(block).size()) /
                   static_cast<double>(instance.death[block] - instance.birth[block]);
  }
  std::vector<uint32_t> order(reads.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return reads[a] > reads[b]; });
  std::vector<uint32_t> wandering;
  size_t filled = 0;
  for (const uint32_t block : order) {
    if (filled++ % kFilledAtOnce == 0 && !go_on()) return false;
    StateIndex best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (StateIndex k = 0; k < static_cast<StateIndex>(instance.TableOf(block).state_count());
         ++k) {
      const double cost = StayCost(schedule, block, k);
      if (cost >= least) continue;
      least = cost;
      best = k;
    }
    if (least < std::numeric_limits<double>::infinity()) {
      schedule.Put(block, {{instance.birth[block], best}});
    } else {
      wandering.push_back(block);
    }
  }
  if (wandering.empty()) return true;
  constexpr PriceWeights kWeights = {0.02, 0.02};
  MoveCosts moves(schedule, prices, kWeights);
  Router router(schedule, prices, moves, kWeights);
  Path path;
  for (const uint32_t block : wandering) {
    if (filled++ % kFilledAtOnce == 0 && !go_on()) return false;
    if (router.Route(block, {}, path) == Router::kInfinite) return false;
    schedule.Put(block, path);
    ForEachEdge(instance, block, path, [&moves](uint32_t phase, uint32_t, StateIndex, StateIndex) {
      moves.Refresh(phase);
    });
  }
  return true;
}

}  // namespace kvtier::bound
