#include "tiering/bound/primal/cost_to_go.h"

#include <algorithm>

#include "tiering/base/check.h"

namespace kvtier::bound {
namespace {

constexpr size_t kPreparedAtOnce = 256;

}  // namespace

CostToGo::CostToGo(const Instance& instance, const PathPrices& prices)
    : instance_(instance), prices_(prices), phase_table_(instance.phase_count) {
  idles_.assign(instance.tables.size() * kStatesMax, 0);
  moves_.resize(instance.tables.size() * kStatesMax);
  std::vector<bool> seen(instance.tables.size(), false);
  for (uint32_t block_class = 0; block_class < instance.classes.size(); ++block_class) {
    // Idle edges cost each byte the same: any class speaks for its table.
    const size_t number = instance.classes[block_class].table;
    if (seen[number]) continue;
    seen[number] = true;
    const OptionTable& table = instance.tables[number];
    states_max_ = std::max<size_t>(states_max_, table.state_count());
    for (StateIndex from = 0; from < table.state_count(); ++from) {
      const absl::Span<const Option> idle = table.Options(0, from, from);
      idles_[number * kStatesMax + from] = idle.size() == 1 && idle[0] == Option() ? 1 : 0;
      for (StateIndex to = 0; to < table.state_count(); ++to) {
        if (from != to && !table.Options(0, from, to).empty())
          AddMove(number, block_class, from, to);
      }
    }
  }
}

uint64_t CostToGo::TableEntries(const Instance& instance) {
  uint64_t moves = 0;
  for (const OptionTable& table : instance.tables) {
    for (StateIndex from = 0; from < table.state_count(); ++from) {
      for (StateIndex to = 0; to < table.state_count(); ++to)
        moves += from != to && !table.Options(0, from, to).empty() ? 1 : 0;
    }
  }
  return moves * PhaseTable(instance.phase_count).entries();
}

void CostToGo::AddMove(size_t table, uint32_t block_class, StateIndex from, StateIndex to) {
  Move move;
  move.table = table;
  move.from = from;
  move.to = to;
  move.cost.resize(instance_.phase_count);
  const double scale = 1 / static_cast<double>(instance_.classes[block_class].bytes);
  for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
    move.cost[phase] = scale * prices_.Edge(block_class, phase, 0, from, to) +
                       prices_.RoomSum(table, from)[phase + 1] -
                       prices_.RoomSum(table, to)[phase + 1];
  }
  move.cheapest.resize(phase_table_.entries());
  for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) move.cheapest[phase] = phase;
  for (uint32_t level = 1; level < phase_table_.levels(); ++level) {
    uint32_t* const cheapest = &move.cheapest[phase_table_.Entry(level, 0)];
    phase_table_.Build(
        level, [&](uint32_t phase) { cheapest[phase] = phase; },
        [&](uint32_t phase, uint32_t neighbour) {
          const uint32_t other = cheapest[neighbour];
          const double here = move.cost[phase], there = move.cost[other];
          cheapest[phase] = here < there || (here == there && phase < other) ? phase : other;
        });
  }
  moves_[table * kStatesMax + from].push_back(std::move(move));
}

uint32_t CostToGo::Cheapest(const Move& move, uint32_t begin, uint32_t end) const {
  const uint32_t last = end - 1;
  if (begin == last) return begin;
  const uint32_t level = PhaseTable::LevelOf(begin, last);
  const uint32_t left = move.cheapest[phase_table_.Entry(level, begin)];
  const uint32_t right = move.cheapest[phase_table_.Entry(level, last)];
  return move.cost[right] < move.cost[left] ? right : left;
}

uint32_t CostToGo::NextPhase(const Place& place) const {
  return place.next < instance_.first_access[place.block + 1] ? instance_.access_phase[place.next]
                                                              : instance_.death[place.block] - 1;
}

CostToGo::Costs CostToGo::Ahead(const Place& place) const {
  Costs ahead;
  const size_t table = instance_.ClassOf(place.block).table;
  const size_t states = instance_.tables[table].state_count();
  if (place.next < instance_.first_access[place.block + 1]) {
    std::copy_n(&ahead_[place.next * states_max_], states, ahead.begin());
    return ahead;
  }
  const uint32_t death = instance_.death[place.block];
  for (StateIndex k = 0; k < static_cast<StateIndex>(states); ++k) {
    ahead[k] = Idles(table, k) ? prices_.Stay(table, k, death - 1, death) : kInfinite;
  }
  return ahead;
}

double CostToGo::Stayed(size_t table, StateIndex state, const Place& place, uint32_t next,
                        const Costs& ahead) const {
  if (next == place.phase) return ahead[state];
  if (!Idles(table, state)) return kInfinite;
  return ahead[state] + prices_.Stay(table, state, place.phase, next);
}

double CostToGo::Moved(const Move& move, const Place& place, uint32_t next, const Costs& ahead,
                       uint32_t& phase) const {
  uint32_t begin = place.phase, end = next;
  if (!Idles(move.table, move.from)) end = std::min(end, begin + 1);
  if (!Idles(move.table, move.to)) begin = std::max(begin, next - 1);
  if (begin >= end || ahead[move.to] == kInfinite) return kInfinite;
  phase = Cheapest(move, begin, end);
  return move.cost[phase] - prices_.RoomSum(move.table, move.from)[place.phase] +
         prices_.RoomSum(move.table, move.to)[next] + ahead[move.to];
}

void CostToGo::Ask(const Place& place, Costs& cost, Costs& stay) const {
  const size_t table = instance_.ClassOf(place.block).table;
  const uint32_t next = NextPhase(place);
  const Costs ahead = Ahead(place);
  uint32_t phase = 0;
  for (StateIndex k = 0; k < instance_.tables[table].state_count(); ++k) {
    stay[k] = Stayed(table, k, place, next, ahead);
    cost[k] = stay[k];
    if (next == place.phase) continue;
    for (const Move& move : moves_[table * kStatesMax + k]) {
      cost[k] = std::min(cost[k], Moved(move, place, next, ahead, phase));
    }
  }
}

double CostToGo::Cost(const Place& place, StateIndex state) const {
  const size_t table = instance_.ClassOf(place.block).table;
  const uint32_t next = NextPhase(place);
  const Costs ahead = Ahead(place);
  double cost = Stayed(table, state, place, next, ahead);
  if (next == place.phase) return cost;
  uint32_t phase = 0;
  for (const Move& move : moves_[table * kStatesMax + state]) {
    cost = std::min(cost, Moved(move, place, next, ahead, phase));
  }
  return cost;
}

double CostToGo::Stay(const Place& place, StateIndex state) const {
  return Stayed(instance_.ClassOf(place.block).table, state, place, NextPhase(place), Ahead(place));
}

uint32_t CostToGo::BestMove(const Place& place, StateIndex state) const {
  const size_t table = instance_.ClassOf(place.block).table;
  const uint32_t next = NextPhase(place);
  if (next <= place.phase) return kNone;
  const Costs ahead = Ahead(place);
  double least = Stayed(table, state, place, next, ahead);
  uint32_t best = kNone;
  for (const Move& move : moves_[table * kStatesMax + state]) {
    uint32_t phase = 0;
    const double cost = Moved(move, place, next, ahead, phase);
    if (cost >= least) continue;
    least = cost;
    best = phase;
  }
  return best;
}

// From the last access to the first, each from what is to come behind it.
void CostToGo::PrepareBlock(size_t block) {
  const uint32_t block_class = instance_.block_class[block];
  const BlockClass& described = instance_.classes[block_class];
  const OptionTable& table = instance_.tables[described.table];
  const StateIndex states = table.state_count();
  const double scale = 1 / static_cast<double>(described.bytes);
  Place place;
  place.block = static_cast<uint32_t>(block);
  place.next = instance_.first_access[block + 1];
  Costs behind, stay;
  while (place.next > instance_.first_access[block]) {
    const uint64_t end = place.next;
    const uint32_t phase = instance_.access_phase[end - 1];
    uint64_t first = end - 1;
    while (first > instance_.first_access[block] && instance_.access_phase[first - 1] == phase) {
      --first;
    }
    const bool last = phase + 1 == instance_.death[block];
    place.phase = phase + 1;
    // At the end of its life nothing is to come.
    if (last) {
      behind.fill(0);
    } else {
      Ask(place, behind, stay);
    }
    Costs ahead;
    double least = kInfinite;
    for (StateIndex from = 0; from < states; ++from) {
      ahead[from] = kInfinite;
      for (StateIndex to = 0; to < states; ++to) {
        // The last state counts to the end.
        if (behind[to] == kInfinite || (last && to != from)) continue;
        ahead[from] = std::min(
            ahead[from],
            scale * prices_.Edge(block_class, phase, static_cast<size_t>(end - first), from, to) +
                behind[to]);
      }
      ahead[from] += prices_.Stay(described.table, from, phase, phase + 1);
      least = std::min(least, ahead[from]);
    }
    // Differences are all that is asked for, and small numbers keep their digits.
    for (StateIndex k = 0; k < states; ++k) {
      ahead_[first * states_max_ + k] =
          static_cast<float>(ahead[k] == kInfinite ? kInfinite : ahead[k] - least);
    }
    place.next = first;
  }
}

bool CostToGo::Prepare(const std::function<bool()>& go_on) {
  ahead_.assign(instance_.access_phase.size() * states_max_, 0);
  for (size_t block = 0; block < instance_.block_count(); ++block) {
    if (block % kPreparedAtOnce == 0 && !go_on()) return false;
    PrepareBlock(block);
  }
  return true;
}

}  // namespace kvtier::bound
