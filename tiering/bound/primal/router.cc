#include "tiering/bound/primal/router.h"

#include <algorithm>

#include "tiering/bound/primal/path_edges.h"

namespace kvtier::bound {

Router::Router(const WorkingSchedule& schedule, const PathPrices& prices, const MoveCosts& moves,
               PriceWeights weights)
    : schedule_(schedule),
      instance_(schedule.instance()),
      prices_(prices),
      moves_(moves),
      weights_(weights) {
  for (const OptionTable& table : instance_.tables) {
    std::array<bool, kStatesMax> free{};
    for (StateIndex k = 0; k < static_cast<StateIndex>(table.state_count()); ++k) {
      const absl::Span<const Option> idle = table.Options(0, k, k);
      free[k] = idle.size() == 1 && idle[0] == Option();
    }
    stays_free_.push_back(free);
  }
}

double Router::Cost(size_t block, const Path& path) const {
  const uint32_t block_class = instance_.block_class[block];
  const size_t table = instance_.classes[block_class].table;
  const double room_weight =
      weights_.room * static_cast<double>(instance_.classes[block_class].bytes);
  double cost = 0;
  ForEachEdge(instance_, block, path,
              [&](uint32_t phase, uint32_t accesses, StateIndex from, StateIndex to) {
                cost += schedule_.Increase(phase,
                                           schedule_.cuts().Edge(block_class, accesses, from, to));
                if (weights_.edges > 0) {
                  cost += weights_.edges * prices_.Edge(block_class, phase, accesses, from, to);
                }
              });
  for (size_t i = 0; i < path.size(); ++i) {
    const uint32_t end = i + 1 < path.size() ? path[i + 1].phase : instance_.death[block];
    cost += room_weight * prices_.Stay(table, path[i].state, path[i].phase, end);
  }
  return cost;
}

double Router::MoveCost(uint32_t phase, StateIndex from, StateIndex to) const {
  double cost = schedule_.Increase(phase, schedule_.cuts().Edge(class_, 0, from, to));
  if (weights_.edges > 0) cost += weights_.edges * prices_.Edge(class_, phase, 0, from, to);
  return cost;
}

// The hints' phases are asked exactly, as what the block itself did there is no longer in the times
// that the move costs were made of.
uint32_t Router::BestMove(StateIndex from, StateIndex to, uint32_t begin, uint32_t end) const {
  uint32_t best = moves_.Cheapest(table_, from, to, begin, end);
  if (best == MoveCosts::kNone) return best;
  const auto total = [&](uint32_t phase) {
    return MoveCost(phase, from, to) + room_weight_ * (prices_.RoomSum(table_, from)[phase + 1] -
                                                       prices_.RoomSum(table_, to)[phase + 1]);
  };
  for (const auto& [phase, states] : hints_) {
    if (phase < begin || phase >= end || phase == best) continue;
    if (states.first == from && states.second == to && total(phase) < total(best)) best = phase;
  }
  return best;
}

// From the start of phase `begin` to that of `end`; in phases [begin, end) the block is idle.
void Router::Cross(uint32_t begin, uint32_t end, const Costs& in, Costs& out, Stage& stage) {
  stage.begin = begin;
  const std::vector<TierSet>& tiers = instance_.tables[table_].states();
  const int64_t bytes = static_cast<int64_t>(instance_.classes[class_].bytes);
  // Where each state first and last lacks room at starts begin..end.
  std::array<uint32_t, kStatesMax> first, last;
  std::fill_n(first.begin(), states_, Room::kNone);
  std::fill_n(last.begin(), states_, Room::kNone);
  const uint32_t asked = std::min(end + 1, room_until_);
  for (size_t j = 0; j < instance_.tiers.size() && begin < asked; ++j) {
    if (!schedule_.room().limited(j)) continue;
    const uint32_t first_full = schedule_.room().FirstBelow(j, begin, asked, bytes);
    if (first_full == Room::kNone) continue;
    const uint32_t last_full = schedule_.room().LastBelow(j, first_full, asked, bytes);
    for (size_t k = 0; k < states_; ++k) {
      if (((tiers[k] >> j) & 1) == 0) continue;
      first[k] = std::min(first[k], first_full);
      last[k] = last[k] == Room::kNone ? last_full : std::max(last[k], last_full);
    }
  }
  const std::array<bool, kStatesMax>& free = stays_free_[table_];
  const auto stay = [&](StateIndex k, uint32_t from, uint32_t to) {
    return room_weight_ * prices_.Stay(table_, k, from, to + 1);
  };
  for (StateIndex to = 0; to < static_cast<StateIndex>(states_); ++to) {
    out[to] = kInfinite;
    if (in[to] < kInfinite && first[to] == Room::kNone && (free[to] || begin == end)) {
      out[to] = in[to] + stay(to, begin, end);
      stage.crossing[to] = {to, to, MoveCosts::kNone, MoveCosts::kNone};
    }
  }
  if (begin == end) return;
  const Costs stayed = out;
  for (StateIndex from = 0; from < static_cast<StateIndex>(states_); ++from) {
    // A move in phase s needs room for the old state at starts up to s, and for the new one from
    // s + 1 on.
    if (in[from] == kInfinite || first[from] == begin) continue;
    const uint32_t leave_end =
        !free[from] ? begin + 1 : (first[from] == Room::kNone ? end : first[from]);
    for (StateIndex to = 0; to < static_cast<StateIndex>(states_); ++to) {
      if (last[to] == end) continue;
      const uint32_t arrive =
          !free[to] ? end - 1 : (last[to] == Room::kNone ? begin : std::max(begin, last[to]));
      if (from != to && arrive < leave_end) {
        const uint32_t phase = BestMove(from, to, arrive, leave_end);
        if (phase == MoveCosts::kNone) continue;
        const double cost = in[from] + stay(from, begin, phase) + MoveCost(phase, from, to) +
                            stay(to, phase + 1, end);
        if (cost < out[to]) {
          out[to] = cost;
          stage.crossing[to] = {from, to, phase, MoveCosts::kNone};
        }
        continue;
      }
      if (stayed[to] < kInfinite && from == to) continue;
      for (StateIndex via = 0; via < static_cast<StateIndex>(states_); ++via) {
        if (via == from || via == to || first[via] != Room::kNone || !free[via]) continue;
        const uint32_t out_phase = BestMove(from, via, begin, std::min(leave_end, end - 1));
        if (out_phase == MoveCosts::kNone) continue;
        const uint32_t in_phase = BestMove(via, to, std::max(arrive, out_phase + 1), end);
        if (in_phase == MoveCosts::kNone) continue;
        const double cost = in[from] + stay(from, begin, out_phase) +
                            MoveCost(out_phase, from, via) + stay(via, out_phase + 1, in_phase) +
                            MoveCost(in_phase, via, to) + stay(to, in_phase + 1, end);
        if (cost < out[to]) {
          out[to] = cost;
          stage.crossing[to] = {from, via, out_phase, in_phase};
        }
      }
    }
  }
}

void Router::Access(uint32_t phase, uint32_t count, bool last, const Costs& in, Costs& out,
                    Stage& stage) {
  std::fill_n(out.begin(), states_, kInfinite);
  for (StateIndex from = 0; from < static_cast<StateIndex>(states_); ++from) {
    if (in[from] == kInfinite) continue;
    for (StateIndex to = 0; to < static_cast<StateIndex>(states_); ++to) {
      // The last state counts to the end.
      if (last && to != from) continue;
      const double* const edge = schedule_.cuts().Edge(class_, count, from, to);
      if (edge == nullptr) continue;
      double cost = in[from] + schedule_.Increase(phase, edge);
      if (weights_.edges > 0) cost += weights_.edges * prices_.Edge(class_, phase, count, from, to);
      if (cost < out[to]) {
        out[to] = cost;
        stage.from[to] = from;
      }
    }
  }
}

double Router::Route(size_t block, const Path& hints, Path& path) {
  class_ = instance_.block_class[block];
  table_ = instance_.classes[class_].table;
  states_ = instance_.tables[table_].state_count();
  room_weight_ = weights_.room * static_cast<double>(instance_.classes[class_].bytes);
  hints_.clear();
  if (hints.size() > 1) {
    ForEachEdge(instance_, block, hints,
                [&](uint32_t phase, uint32_t accesses, StateIndex from, StateIndex to) {
                  if (accesses == 0) hints_.push_back({phase, {from, to}});
                });
  }
  const uint32_t birth = instance_.birth[block];
  const uint32_t death = instance_.death[block];
  Costs costs, crossed;
  for (StateIndex k = 0; k < static_cast<StateIndex>(states_); ++k) {
    costs[k] = ((instance_.classes[class_].start_states >> k) & 1) != 0 ? 0 : kInfinite;
  }
  const absl::Span<const uint32_t> accesses = instance_.Accesses(block);
  size_t stage = 0;
  uint32_t begin = birth;
  for (size_t i = 0; i < accesses.size(); ++stage) {
    const uint32_t phase = accesses[i];
    uint32_t count = 0;
    for (; i < accesses.size() && accesses[i] == phase; ++i) ++count;
    if (stage == stages_.size()) stages_.emplace_back();
    Cross(begin, phase, costs, crossed, stages_[stage]);
    Access(phase, count, phase + 1 == death, crossed, costs, stages_[stage]);
    begin = phase + 1;
  }
  const bool ends_with_access = begin == death;
  if (!ends_with_access) {
    if (stage == stages_.size()) stages_.emplace_back();
    Cross(begin, death - 1, costs, crossed, stages_[stage]);
    // In its last phase it stays.
    for (StateIndex k = 0; k < static_cast<StateIndex>(states_); ++k) {
      costs[k] = schedule_.cuts().Edge(class_, 0, k, k) != nullptr ? crossed[k] : kInfinite;
    }
    ++stage;
  }
  const auto best =
      std::min_element(costs.begin(), costs.begin() + static_cast<ptrdiff_t>(states_));
  path.clear();
  if (*best == kInfinite) return kInfinite;
  Trace(stage, birth, static_cast<StateIndex>(best - costs.begin()), ends_with_access, path);
  return *best;
}

// `state` is that behind the last stage. Changes come out last first.
void Router::Trace(size_t stages, uint32_t birth, StateIndex state, bool ends_with_access,
                   Path& path) {
  for (size_t i = stages; i > 0; --i) {
    const Stage& stage = stages_[i - 1];
    if (ends_with_access || i < stages) {
      const StateIndex before = stage.from[state];
      // The phase behind this stage's access begins the next stage.
      if (before != state) path.push_back({stages_[i].begin, state});
      state = before;
    }
    const Crossing& crossing = stage.crossing[state];
    if (crossing.second != MoveCosts::kNone) path.push_back({crossing.second + 1, state});
    if (crossing.first != MoveCosts::kNone) path.push_back({crossing.first + 1, crossing.via});
    state = crossing.from;
  }
  path.push_back({birth, state});
  std::reverse(path.begin(), path.end());
}

}  // namespace kvtier::bound
