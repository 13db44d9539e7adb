#include "tiering/bound/primal/price_dive.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <queue>

#include "tiering/bound/primal/cost_to_go.h"
#include "tiering/bound/primal/keep_order.h"

namespace kvtier::bound {
namespace {

constexpr uint32_t kNone = 0xffffffff;
constexpr StateIndex kNowhere = 0xff;
// How often a block is tried to be moved after a read or a move.
constexpr uint8_t kTries = 4;
// What a move adds to a phase's time is nothing or all, by which resource is behind just then; the
// prices know what is to come in the phase. Of 0, 0.02, 0.1, 0.3, 0.5, 0.7 and 1 this part of them
// was the best or near it on six of eight synthetic problems; 1 lost most where phases have a
// floor, 0 where several tiers serve reads.
constexpr double kPricedPart = 0.5;

class Dive {
 public:
  Dive(const Instance& instance, const PathPrices& prices, const PhaseCuts& cuts,
       const PhaseReaders& readers)
      : instance_(instance),
        prices_(prices),
        cuts_(cuts),
        readers_(readers),
        costs_(instance, prices),
        standings_(instance.block_count()),
        keep_order_(instance, prices, costs_, standings_),
        paths_(instance.block_count()),
        slots_(instance.block_count(), kNone),
        births_(instance.phase_count),
        deaths_(size_t{instance.phase_count} + 1),
        tries_(instance.phase_count),
        seconds_(cuts.size()) {
    uint64_t all = 0;
    for (uint32_t block = 0; block < instance.block_count(); ++block) {
      all += instance.ClassOf(block).bytes;
      births_[instance.birth[block]].push_back(block);
      deaths_[instance.death[block]].push_back(block);
      standings_[block].next = instance.first_access[block];
    }
    for (const Tier& tier : instance.tiers) {
      if (tier.capacity_bytes < all) limited_ |= TierSet(1u << free_.size());
      free_.push_back(static_cast<int64_t>(tier.capacity_bytes));
    }
  }

  std::vector<Path> Run(const std::function<bool()>& go_on) {
    if (!costs_.Prepare(go_on)) return {};
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      if (!go_on() || !StartPhase(phase)) return {};
    }
    return std::move(paths_);
  }

 private:
  // A block that may move in the phase before the one whose start is decided on.
  struct Touched {
    uint32_t block = 0;
    uint32_t accesses = 0;   // in the phase before
    StateIndex from = 0;     // at that phase's start; kNowhere if it is born now
    StateIndex at = 0;       // decided so far; kNowhere if nothing is
    uint8_t tries = 0;       // left
    bool decided = false;    // has been moved, or made to leave
    CostToGo::Costs cost{};  // from now on, by state
  };
  struct Try {
    uint32_t block = 0;
    uint32_t version = 0;
    uint8_t tries = 0;
  };
  struct Candidate {
    double gain = 0;  // seconds a byte
    uint32_t slot = 0;
    uint32_t block = 0;
    bool operator<(const Candidate& other) const {
      return gain != other.gain ? gain < other.gain : block > other.block;
    }
  };

  // Decides the states at the start of `phase`, and with it what blocks do in the phase before.
  bool StartPhase(uint32_t phase) {
    phase_ = phase;
    touched_.clear();
    std::fill(seconds_.begin(), seconds_.end(), 0);
    if (phase > 0) cuts_.Base(phase - 1, seconds_.data());
    for (const uint32_t block : deaths_[phase]) {
      Occupy(block, standings_[block].state, -1);
      ++standings_[block].version;
    }
    if (phase > 0) TouchReaders(phase - 1);
    for (const uint32_t block : births_[phase]) Touch(block, 0, kNowhere, kTries);
    TouchStranded(phase);
    for (const Try& one : tries_[phase]) {
      const Standing& standing = standings_[one.block];
      if (standing.version == one.version && slots_[one.block] == kNone)
        Touch(one.block, 0, standing.state, one.tries);
    }
    tries_[phase] = {};
    if (!Place()) return false;
    Improve();
    Finish();
    return true;
  }

  // Their reads load the phase before; what stays where it is needs no more.
  void TouchReaders(uint32_t before) {
    const absl::Span<const uint32_t> readers = readers_.Of(before);
    for (size_t i = 0; i < readers.size();) {
      const uint32_t block = readers[i];
      uint32_t accesses = 0;
      for (; i < readers.size() && readers[i] == block; ++i) ++accesses;
      Standing& standing = standings_[block];
      standing.next += accesses;
      if (instance_.death[block] == phase_) {
        Load(seconds_.data(), block, accesses, standing.state, standing.state, 1);
        continue;
      }
      ++standing.version;
      Touch(block, accesses, standing.state, kTries);
      if (slots_[block] != kNone && touched_[slots_[block]].at != kNowhere)
        keep_order_.Add(block, phase_);
    }
  }

  // What is read now and cannot be where it is.
  void TouchStranded(uint32_t phase) {
    for (const uint32_t block : readers_.Of(phase)) {
      if (slots_[block] != kNone) continue;
      const Standing& standing = standings_[block];
      if (costs_.Stay({block, phase, standing.next}, standing.state) == CostToGo::kInfinite)
        Touch(block, 0, standing.state, 0);
    }
  }

  size_t Touch(uint32_t block, uint32_t accesses, StateIndex from, uint8_t tries) {
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
      Load(seconds_.data(), block, accesses, from, from, 1);
    } else {
      Occupy(block, from, -1);
    }
    return slots_[block];
  }

  bool Legal(const Touched& touched, StateIndex to) const {
    if (touched.cost[to] == CostToGo::kInfinite) return false;
    if (touched.from == kNowhere)
      return ((instance_.ClassOf(touched.block).start_states >> to) & 1) != 0;
    if (touched.accesses == 0 && to == touched.from)
      return costs_.Idles(instance_.ClassOf(touched.block).table, to);
    return cuts_.Edge(instance_.block_class[touched.block], touched.accesses, touched.from, to) !=
           nullptr;
  }

  void Occupy(uint32_t block, StateIndex state, int sign) {
    if (state == kNowhere) return;
    const TierSet tiers = instance_.TableOf(block).states()[state];
    const auto bytes = static_cast<int64_t>(instance_.ClassOf(block).bytes);
    for (size_t j = 0; j < free_.size(); ++j) {
      if (((tiers >> j) & 1) != 0) free_[j] -= sign * bytes;
    }
  }

  void Load(double* seconds, uint32_t block, uint32_t accesses, StateIndex from, StateIndex to,
            int sign) const {
    if (from == kNowhere || to == kNowhere) return;
    const double* const edge = cuts_.Edge(instance_.block_class[block], accesses, from, to);
    for (size_t v = 0; v < seconds_.size(); ++v) seconds[v] += sign * edge[v];
  }

  double Bytes(uint32_t block) const { return static_cast<double>(instance_.ClassOf(block).bytes); }

  // A tier with more than it can hold, or their number.
  size_t Overfull() const {
    size_t j = 0;
    while (j < free_.size() && (((limited_ >> j) & 1) == 0 || free_[j] >= 0)) ++j;
    return j;
  }

  bool MayLeaveFor(uint32_t block, StateIndex to) const {
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
  double Shift(const Touched& touched, StateIndex at, StateIndex to) {
    const auto priced = [&](StateIndex k) {
      return k == kNowhere || touched.from == kNowhere
                 ? 0
                 : prices_.Edge(instance_.block_class[touched.block], phase_ - 1, touched.accesses,
                                touched.from, k);
    };
    Load(trial_.data(), touched.block, touched.accesses, touched.from, at, -1);
    Load(trial_.data(), touched.block, touched.accesses, touched.from, to, 1);
    Occupy(touched.block, at, -1);
    Occupy(touched.block, to, 1);
    return priced(to) - priced(at);
  }

  // Moves a touched block if there is room, or enough can leave for it, and if this is worth it.
  bool Move(size_t slot, StateIndex to, double gain) {
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

  void Decide(size_t slot, StateIndex to) {
    touched_[slot].at = to;
    touched_[slot].decided = true;
    Standing& standing = standings_[touched_[slot].block];
    standing.taken = false;
    ++standing.version;
  }

  // The states that it can be in instead, in the order of what follows from them.
  std::vector<StateIndex> Others(const Touched& touched) const {
    std::vector<StateIndex> others;
    for (StateIndex k = 0; k < instance_.TableOf(touched.block).state_count(); ++k) {
      if (k != touched.at && Legal(touched, k)) others.push_back(k);
    }
    std::stable_sort(others.begin(), others.end(), [&touched](StateIndex a, StateIndex b) {
      return touched.cost[a] < touched.cost[b];
    });
    return others;
  }

  // Makes it a candidate if it would gain.
  void Offer(size_t slot) {
    const Touched& touched = touched_[slot];
    double least = CostToGo::kInfinite;
    for (StateIndex k = 0; k < instance_.TableOf(touched.block).state_count(); ++k) {
      if (k != touched.at && Legal(touched, k)) least = std::min(least, touched.cost[k]);
    }
    const double gain = touched.cost[touched.at] - least;
    if (gain > 0) candidates_.push({gain, static_cast<uint32_t>(slot), touched.block});
  }

  // Gives each block that has no state one; those first that lose most with another than the best.
  bool Place() {
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
        Load(seconds_.data(), touched.block, touched.accesses, touched.from, *roomy, 1);
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

  void Improve() {
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

  void Finish() {
    for (const Touched& touched : touched_) {
      const uint32_t block = touched.block;
      Standing& standing = standings_[block];
      slots_[block] = kNone;
      const bool moved = touched.at != touched.from;
      if (moved) {
        paths_[block].push_back({phase_, touched.at});
        standing.state = touched.at;
      }
      if (touched.decided) keep_order_.Add(block, phase_);
      const CostToGo::Place place = {block, phase_, standing.next};
      const bool leaves = costs_.Stay(place, standing.state) == CostToGo::kInfinite &&
                          !costs_.Idles(instance_.ClassOf(block).table, standing.state);
      const uint8_t tries = moved || leaves ? kTries : touched.tries;
      if (tries == 0) continue;
      const uint32_t best = costs_.BestMove(place, standing.state);
      if (best != CostToGo::kNone)
        tries_[best + 1].push_back({block, standing.version, static_cast<uint8_t>(tries - 1)});
    }
  }

  const Instance& instance_;
  const PathPrices& prices_;
  const PhaseCuts& cuts_;
  const PhaseReaders& readers_;
  CostToGo costs_;
  std::vector<Standing> standings_;
  KeepOrder keep_order_;
  std::vector<Path> paths_;
  std::vector<uint32_t> slots_;                         // by block, in touched_, or kNone
  std::vector<std::vector<uint32_t>> births_, deaths_;  // by phase
  std::vector<std::vector<Try>> tries_;                 // by phase in which they would have moved
  TierSet limited_ = 0;                                 // tiers for which blocks can be too many
  std::vector<int64_t> free_;  // by tier, bytes; below zero only while a move is tried
  uint32_t phase_ = 0;
  std::vector<Touched> touched_;
  std::vector<double> seconds_, trial_;  // of the phase before, by cut
  std::vector<KeepOrder::Leaver> leavers_;
  std::priority_queue<Candidate> candidates_;
};

}  // namespace

std::vector<Path> DivePriced(const Instance& instance, const PathPrices& prices,
                             const PhaseCuts& cuts, const PhaseReaders& readers,
                             const std::function<bool()>& go_on) {
  return Dive(instance, prices, cuts, readers).Run(go_on);
}

}  // namespace kvtier::bound
