#include "tiering/bound/primal/keep_order.h"

#include <algorithm>

namespace kvtier::bound {
namespace {

constexpr size_t kEntriesMin = 4096;
constexpr size_t kInFront = 8;

}  // namespace

KeepOrder::KeepOrder(const Instance& instance, const PathPrices& prices, const CostToGo& costs,
                     std::vector<Standing>& standings)
    : instance_(instance), prices_(prices), costs_(costs), standings_(standings) {
  leaves_of_state_.resize(instance.tables.size() * kStatesMax);
  leaves_of_tier_.resize(instance.tiers.size());
  for (size_t table = 0; table < instance.tables.size(); ++table) {
    const std::vector<TierSet>& states = instance.tables[table].states();
    for (StateIndex from = 0; from < static_cast<StateIndex>(states.size()); ++from) {
      for (StateIndex to = 0; to < static_cast<StateIndex>(states.size()); ++to) {
        const auto frees = static_cast<TierSet>(states[from] & ~states[to]);
        if (frees == 0 || instance.tables[table].Options(0, from, to).empty()) continue;
        leaves_of_state_[table * kStatesMax + from].push_back(leaves_.size());
        for (size_t j = 0; j < instance.tiers.size(); ++j) {
          if (((frees >> j) & 1) != 0) leaves_of_tier_[j].push_back(leaves_.size());
        }
        leaves_.push_back({table, from, to, frees, kEntriesMin, {}});
      }
    }
  }
}

double KeepOrder::Key(const Leave& leave, uint32_t block, uint32_t phase) const {
  const CostToGo::Place place = {block, phase, standings_[block].next};
  const double stay = costs_.Stay(place, leave.from);
  // Where it cannot stay it is about to go anyway.
  if (stay == CostToGo::kInfinite) return stay;
  return costs_.Cost(place, leave.to) + prices_.RoomSum(leave.table, leave.to)[phase] - stay -
         prices_.RoomSum(leave.table, leave.from)[phase];
}

void KeepOrder::Push(Leave& leave, const Entry& entry) {
  leave.heap.push_back(entry);
  std::push_heap(leave.heap.begin(), leave.heap.end());
}

void KeepOrder::Add(uint32_t block, uint32_t phase) {
  const Standing& standing = standings_[block];
  const size_t state = instance_.ClassOf(block).table * kStatesMax + standing.state;
  for (const size_t number : leaves_of_state_[state]) {
    Leave& leave = leaves_[number];
    const double key = Key(leave, block, phase);
    if (key == CostToGo::kInfinite) continue;
    if (leave.heap.size() >= leave.entries_max) {
      const auto outdated = [this](const Entry& entry) {
        return entry.version != standings_[entry.block].version;
      };
      leave.heap.erase(std::remove_if(leave.heap.begin(), leave.heap.end(), outdated),
                       leave.heap.end());
      std::make_heap(leave.heap.begin(), leave.heap.end());
      leave.entries_max = 2 * leave.heap.size() + kEntriesMin;
    }
    Push(leave, {key, block, standing.version});
  }
}

bool KeepOrder::Settle(size_t number, uint32_t phase) {
  Leave& leave = leaves_[number];
  while (!leave.heap.empty()) {
    const Entry front = leave.heap.front();
    const Standing& standing = standings_[front.block];
    if (front.version == standing.version && !standing.taken) {
      const double key = Key(leave, front.block, phase);
      if (key <= front.key) return true;
      Pop(leave);
      // What could not come back in time stays until it is read.
      if (key < CostToGo::kInfinite) Push(leave, {key, front.block, front.version});
      continue;
    }
    if (front.version == standing.version) {
      SetAside(number);
    } else {
      Pop(leave);
    }
  }
  return false;
}

void KeepOrder::Pop(Leave& leave) {
  std::pop_heap(leave.heap.begin(), leave.heap.end());
  leave.heap.pop_back();
}

void KeepOrder::SetAside(size_t number) {
  aside_.push_back({number, leaves_[number].heap.front()});
  Pop(leaves_[number]);
}

std::optional<KeepOrder::Leaver> KeepOrder::Take(
    size_t tier, uint32_t phase, const std::function<bool(uint32_t, StateIndex)>& may) {
  size_t best = leaves_.size();
  double least = CostToGo::kInfinite;
  for (const size_t number : leaves_of_tier_[tier]) {
    Leave& leave = leaves_[number];
    for (size_t asked = 0; asked < kInFront && Settle(number, phase); ++asked) {
      const double keep = leave.heap.front().key + prices_.RoomSum(leave.table, leave.from)[phase] -
                          prices_.RoomSum(leave.table, leave.to)[phase];
      if (keep >= least) break;
      if (may(leave.heap.front().block, leave.to)) {
        least = keep;
        best = number;
        break;
      }
      SetAside(number);
    }
  }
  if (best == leaves_.size()) return std::nullopt;
  const uint32_t block = leaves_[best].heap.front().block;
  standings_[block].taken = true;
  taken_.push_back(block);
  return Leaver{block, leaves_[best].to, least};
}

void KeepOrder::Release() {
  for (const uint32_t block : taken_) standings_[block].taken = false;
  for (const Aside& aside : aside_) {
    if (aside.entry.version == standings_[aside.entry.block].version)
      Push(leaves_[aside.leave], aside.entry);
  }
  aside_.clear();
  taken_.clear();
}

}  // namespace kvtier::bound
