#include "tiering/bound/primal/phase_moves.h"

#include <algorithm>
#include <optional>

namespace kvtier::bound {
namespace {

constexpr uint32_t kNone = 0xffffffff;
// What a move adds to a phase's time is nothing or all, by which resource is behind just then; the
// prices know what is to come in the phase. Of 0, 0.02, 0.1, 0.3, 0.5, 0.7 and 1 this part of them
// was the best or near it on six of eight synthetic problems; 1 lost most where phases have a
// floor, 0 where several tiers serve reads.
constexpr double kPricedPart = 0.5;

}  // namespace

PhaseMoves::PhaseMoves(const Instance& instance, const PathPrices& prices, const PhaseCuts& cuts,
                       const CostToGo& costs, std::vector<Standing>& standings,
                       KeepOrder& keep_order)
    : instance_(instance),
      prices_(prices),
      cuts_(cuts),
      costs_(costs),
      standings_(standings),
      keep_order_(keep_order),
      slots_(instance.block_count(), kNone),
      seconds_(cuts.size()) {
  uint64_t all = 0;
  for (uint32_t block = 0; block < instance.block_count(); ++block)
    all += instance.ClassOf(block).bytes;
  for (const Tier& tier : instance.tiers) {
    if (tier.capacity_bytes < all) limited_ |= TierSet(1u << free_.size());
    free_.push_back(static_cast<int64_t>(tier.capacity_bytes));
  }
}

void PhaseMoves::Start(uint32_t phase) {
  phase_ = phase;
  for (const Touched& touched : touched_) slots_[touched.block] = kNone;
  touched_.clear();
  std::fill(seconds_.begin(), seconds_.end(), 0);
  if (phase > 0) cuts_.Base(phase - 1, seconds_.data());
}

const PhaseMoves::Touched* PhaseMoves::Find(uint32_t block) const {
  return slots_[block] == kNone ? nullptr : &touched_[slots_[block]];
}

size_t PhaseMoves::Touch(uint32_t block, uint32_t accesses, StateIndex from, uint8_t tries) {
  if (slots_[block] != kNone) return slots_[block];
  slots_[block] = static_cast<uint32_t>(touched_.size());
  Touched& touched = touched_.emplace_back();
  touched.block = block;
  touched.accesses = accesses;
  touched.from = from;
  touched.at = kNowhere;
  touched.tries = tries;
  CostToGo::Costs stay;
  costs_.Ask({block, phase_, standings_[block].next}, touched.cost, stay);
  if (from == kNowhere) return slots_[block];
  if (Legal(touched, from)) {
    touched.at = from;
    Load(block, accesses, from, from);
  } else {
    Occupy(block, from, -1);
  }
  return slots_[block];
}

bool PhaseMoves::Legal(const Touched& touched, StateIndex to) const {
  if (touched.cost[to] == CostToGo::kInfinite) return false;
  if (touched.from == kNowhere)
    return ((instance_.ClassOf(touched.block).start_states >> to) & 1) != 0;
  if (touched.accesses == 0 && to == touched.from)
    return costs_.Idles(instance_.ClassOf(touched.block).table, to);
  return cuts_.Edge(instance_.block_class[touched.block], touched.accesses, touched.from, to) !=
         nullptr;
}

void PhaseMoves::Occupy(uint32_t block, StateIndex state, int sign) {
  if (state == kNowhere) return;
  const TierSet tiers = instance_.TableOf(block).states()[state];
  const auto bytes = static_cast<int64_t>(instance_.ClassOf(block).bytes);
  for (size_t j = 0; j < free_.size(); ++j) {
    if (((tiers >> j) & 1) != 0) free_[j] -= sign * bytes;
  }
}

void PhaseMoves::AddEdge(std::vector<double>& seconds, uint32_t block, uint32_t accesses,
                         StateIndex from, StateIndex to, int sign) const {
  if (from == kNowhere || to == kNowhere) return;
  const double* const edge = cuts_.Edge(instance_.block_class[block], accesses, from, to);
  for (size_t v = 0; v < seconds_.size(); ++v) seconds[v] += sign * edge[v];
}

// A tier with more than it can hold, or their number.
size_t PhaseMoves::Overfull() const {
  size_t j = 0;
  while (j < free_.size() && (((limited_ >> j) & 1) == 0 || free_[j] >= 0)) ++j;
  return j;
}

bool PhaseMoves::MayLeaveFor(uint32_t block, StateIndex to) const {
  const uint32_t slot = slots_[block];
  if (slot != kNone && !Legal(touched_[slot], to)) return false;
  const StateIndex at = standings_[block].state;
  const std::vector<TierSet>& states = instance_.TableOf(block).states();
  const auto enters = static_cast<TierSet>(states[to] & ~states[at] & limited_);
  const auto bytes = static_cast<int64_t>(instance_.ClassOf(block).bytes);
  for (size_t j = 0; j < free_.size(); ++j) {
    if (((enters >> j) & 1) != 0 && free_[j] < bytes) return false;
  }
  return true;
}

// Puts a block's other edge of the phase before into `trial_`; what it costs more at the prices.
double PhaseMoves::Shift(const Touched& touched, StateIndex at, StateIndex to) {
  const auto priced = [&](StateIndex k) {
    return k == kNowhere || touched.from == kNowhere
               ? 0
               : prices_.Edge(instance_.block_class[touched.block], phase_ - 1, touched.accesses,
                              touched.from, k);
  };
  AddEdge(trial_, touched.block, touched.accesses, touched.from, at, -1);
  AddEdge(trial_, touched.block, touched.accesses, touched.from, to, 1);
  Occupy(touched.block, at, -1);
  Occupy(touched.block, to, 1);
  return priced(to) - priced(at);
}

// Moves a touched block if there is room, or enough can leave for it, and if this is worth it.
bool PhaseMoves::Move(size_t slot, StateIndex to, double gain) {
  const Touched touched = touched_[slot];
  standings_[touched.block].taken = true;
  trial_ = seconds_;
  leavers_.clear();
  double priced = Shift(touched, touched.at, to);
  double worth = gain * Bytes(touched.block);
  for (size_t j = Overfull(); j < free_.size() && worth > 0; j = Overfull()) {
    const std::optional<KeepOrder::Leaver> leaver = keep_order_.Take(
        j, phase_,
        [this](uint32_t block, StateIndex target) { return MayLeaveFor(block, target); });
    if (!leaver) break;
    // What leaves is where it was, or it would not be offered.
    Touched left;
    left.block = leaver->block;
    left.from = standings_[left.block].state;
    if (slots_[left.block] != kNone) left.accesses = touched_[slots_[left.block]].accesses;
    priced += Shift(left, left.from, leaver->to);
    worth -= leaver->keep * Bytes(left.block);
    leavers_.push_back(*leaver);
  }
  const double increase = *std::max_element(trial_.begin(), trial_.end()) -
                          *std::max_element(seconds_.begin(), seconds_.end());
  if (Overfull() < free_.size() || worth <= kPricedPart * priced + (1 - kPricedPart) * increase) {
    for (const KeepOrder::Leaver& leaver : leavers_) {
      Occupy(leaver.block, leaver.to, -1);
      Occupy(leaver.block, standings_[leaver.block].state, 1);
    }
    Occupy(touched.block, to, -1);
    Occupy(touched.block, touched.at, 1);
    standings_[touched.block].taken = false;
    keep_order_.Release();
    return false;
  }
  Decide(slot, to);
  for (const KeepOrder::Leaver& leaver : leavers_) {
    const size_t left = Touch(leaver.block, 0, standings_[leaver.block].state, 0);
    const bool first = !touched_[left].decided;
    Decide(left, leaver.to);
    if (first) Offer(left);
  }
  seconds_.swap(trial_);
  keep_order_.Release();
  return true;
}

void PhaseMoves::Decide(size_t slot, StateIndex to) {
  touched_[slot].at = to;
  touched_[slot].decided = true;
  Standing& standing = standings_[touched_[slot].block];
  standing.taken = false;
  ++standing.version;
}

// The states that it can be in instead.
template <typename Visit>
void PhaseMoves::ForEachOther(const Touched& touched, Visit visit) const {
  for (StateIndex k = 0; k < instance_.TableOf(touched.block).state_count(); ++k) {
    if (k != touched.at && Legal(touched, k)) visit(k);
  }
}

// The same, in the order of what follows from them.
std::vector<StateIndex> PhaseMoves::Others(const Touched& touched) const {
  std::vector<StateIndex> others;
  ForEachOther(touched, [&others](StateIndex k) { others.push_back(k); });
  std::stable_sort(others.begin(), others.end(), [&touched](StateIndex a, StateIndex b) {
    return touched.cost[a] < touched.cost[b];
  });
  return others;
}

// Makes it a candidate if it would gain.
void PhaseMoves::Offer(size_t slot) {
  const Touched& touched = touched_[slot];
  double least = CostToGo::kInfinite;
  ForEachOther(touched, [&](StateIndex k) { least = std::min(least, touched.cost[k]); });
  const double gain = touched.cost[touched.at] - least;
  if (gain > 0) candidates_.push({gain, static_cast<uint32_t>(slot), touched.block});
}

bool PhaseMoves::Place() {
  struct Homeless {
    double regret = 0;
    size_t slot = 0;
  };
  std::vector<Homeless> homeless;
  for (size_t slot = 0; slot < touched_.size(); ++slot) {
    if (touched_[slot].at != kNowhere) continue;
    const std::vector<StateIndex> others = Others(touched_[slot]);
    if (others.empty()) return false;
    const auto roomy = std::find_if(others.begin(), others.end(), [&](StateIndex k) {
      return (instance_.TableOf(touched_[slot].block).states()[k] & limited_) == 0;
    });
    if (roomy != others.end()) {
      // For a start: where it costs no room.
      const Touched& touched = touched_[slot];
      Load(touched.block, touched.accesses, touched.from, *roomy);
      Occupy(touched.block, *roomy, 1);
      Decide(slot, *roomy);
      continue;
    }
    const double best = touched_[slot].cost[others[0]];
    homeless.push_back(
        {others.size() > 1 ? touched_[slot].cost[others[1]] - best : CostToGo::kInfinite, slot});
  }
  std::stable_sort(homeless.begin(), homeless.end(),
                   [](const Homeless& a, const Homeless& b) { return a.regret > b.regret; });
  return std::all_of(homeless.begin(), homeless.end(), [this](const Homeless& one) {
    const std::vector<StateIndex> others = Others(touched_[one.slot]);
    return std::any_of(others.begin(), others.end(),
                       [&](StateIndex k) { return Move(one.slot, k, CostToGo::kInfinite); });
  });
}

void PhaseMoves::Improve() {
  for (size_t slot = 0; slot < touched_.size(); ++slot) Offer(slot);
  while (!candidates_.empty()) {
    const size_t slot = candidates_.top().slot;
    candidates_.pop();
    for (const StateIndex to : Others(touched_[slot])) {
      const double gain = touched_[slot].cost[touched_[slot].at] - touched_[slot].cost[to];
      if (gain <= 0 || Move(slot, to, gain)) break;
    }
  }
}

}  // namespace kvtier::bound
