#include "tiering/bound/primal/move_costs.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>

#include "tiering/bound/option_table.h"

namespace kvtier::bound {
namespace {

// By table, the class of the block that stands in the middle by size, or SIZE_MAX as uint32_t.
std::vector<uint32_t> TypicalClasses(const Instance& instance) {
  std::vector<uint64_t> blocks(instance.classes.size());
  for (const uint32_t block_class : instance.block_class) ++blocks[block_class];
  std::vector<uint32_t> typical(instance.tables.size(), 0xffffffff);
  for (size_t table = 0; table < instance.tables.size(); ++table) {
    std::vector<std::pair<uint64_t, uint32_t>> sizes;
    uint64_t all = 0;
    for (uint32_t c = 0; c < instance.classes.size(); ++c) {
      if (instance.classes[c].table != table || blocks[c] == 0) continue;
      sizes.emplace_back(instance.classes[c].bytes, c);
      all += blocks[c];
    }
    std::sort(sizes.begin(), sizes.end());
    uint64_t before = 0;
    for (const auto& [bytes, c] : sizes) {
      before += blocks[c];
      if (2 * before < all) continue;
      typical[table] = c;
      break;
    }
  }
  return typical;
}

}  // namespace

MoveCosts::MoveCosts(const WorkingSchedule& schedule, const PathPrices& prices,
                     PriceWeights weights)
    : schedule_(&schedule),
      prices_(&prices),
      weights_(weights),
      typical_class_(TypicalClasses(schedule.instance())) {
  const Instance& instance = schedule.instance();
  move_of_.assign(instance.tables.size() * kStatesMax * kStatesMax, SIZE_MAX);
  for (size_t table = 0; table < instance.tables.size(); ++table) {
    if (typical_class_[table] == 0xffffffff) continue;
    const std::vector<TierSet>& states = instance.tables[table].states();
    for (StateIndex from = 0; from < static_cast<StateIndex>(states.size()); ++from) {
      for (StateIndex to = 0; to < static_cast<StateIndex>(states.size()); ++to) {
        const double* const edge = schedule.cuts().Edge(typical_class_[table], 0, from, to);
        if (from == to || edge == nullptr) continue;
        Move move;
        move.table = table;
        move.from = from;
        move.to = to;
        move.late = std::popcount(states[to]) >= std::popcount(states[from]);
        move.room_weight =
            weights_.room * static_cast<double>(instance.classes[typical_class_[table]].bytes);
        move.edge.assign(edge, edge + schedule.cuts().size());
        move.seconds.resize(instance.phase_count);
        move.cheapest.resize((instance.phase_count + kRun - 1) / kRun);
        move_of_[(table * kStatesMax + from) * kStatesMax + to] = moves_.size();
        moves_.push_back(std::move(move));
      }
    }
  }
  RefreshAll();
}

double MoveCosts::Cost(const Move& move, uint32_t phase) const {
  // What staying costs until then in the old state and from then on in the new one depends on the
  // phase by the difference of their sums only.
  const double stay = prices_->RoomSum(move.table, move.from)[phase + 1] -
                      prices_->RoomSum(move.table, move.to)[phase + 1];
  return schedule_->Increase(phase, move.edge.data()) + move.room_weight * stay +
         weights_.edges * prices_->Edge(typical_class_[move.table], phase, 0, move.from, move.to);
}

uint32_t MoveCosts::Scan(const Move& move, uint32_t begin, uint32_t end) const {
  uint32_t best = begin;
  for (uint32_t phase = begin + 1; phase < end; ++phase) {
    if (Better(move, move.seconds[phase], move.seconds[best])) best = phase;
  }
  return best;
}

void MoveCosts::Refresh(uint32_t phase) {
  const uint32_t run = phase / kRun;
  const uint32_t end = std::min((run + 1) * kRun, schedule_->instance().phase_count);
  for (Move& move : moves_) {
    const double seconds = Cost(move, phase);
    const double before = std::exchange(move.seconds[phase], seconds);
    uint32_t& cheapest = move.cheapest[run];
    if (cheapest == phase && seconds > before) {
      cheapest = Scan(move, run * kRun, end);
    } else if (cheapest != phase && Better(move, seconds, move.seconds[cheapest])) {
      cheapest = phase;
    }
  }
}

void MoveCosts::RefreshAll() {
  const uint32_t phases = schedule_->instance().phase_count;
  for (Move& move : moves_) {
    for (uint32_t phase = 0; phase < phases; ++phase) move.seconds[phase] = Cost(move, phase);
    for (uint32_t begin = 0; begin < phases; begin += kRun) {
      move.cheapest[begin / kRun] = Scan(move, begin, std::min(begin + kRun, phases));
    }
  }
}

uint32_t MoveCosts::Cheapest(size_t table, StateIndex from, StateIndex to, uint32_t begin,
                             uint32_t end) const {
  const size_t number = move_of_[(table * kStatesMax + from) * kStatesMax + to];
  if (number == SIZE_MAX || begin >= end) return kNone;
  const Move& move = moves_[number];
  uint32_t best = begin;
  while (begin < end) {
    const uint32_t run = begin / kRun;
    const uint32_t stop = std::min(end, (run + 1) * kRun);
    const uint32_t cheapest = move.cheapest[run];
    // A run's cheapest phase is that of any part of the run that has it.
    const uint32_t here = cheapest >= begin && cheapest < stop ? cheapest : Scan(move, begin, stop);
    if (here != best && Better(move, move.seconds[here], move.seconds[best])) best = here;
    begin = stop;
  }
  return best;
}

}  // namespace kvtier::bound
