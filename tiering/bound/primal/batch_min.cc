#include "tiering/bound/primal/batch_min.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <queue>
#include <tuple>

#include "tiering/bound/primal/read_order.h"

namespace kvtier::bound {
namespace {

// A block in a tier that is read next in phase `next`, entered there with the block's `version`th
// decision.
struct Resident {
  uint32_t next = 0;
  uint32_t block = 0;
  uint32_t version = 0;
  bool operator<(const Resident& other) const {
    return std::tie(next, block, version) < std::tie(other.next, other.block, other.version);
  }
};

class Min {
 public:
  Min(const Instance& instance, const PhaseReaders& readers)
      : instance_(instance),
        readers_(readers),
        orders_(ReadOrder(instance)),
        paths_(instance.block_count()),
        version_(instance.block_count()),
        next_access_(instance.first_access.begin(), instance.first_access.end() - 1),
        residents_(instance.tiers.size()),
        used_(instance.tiers.size()),
        births_(instance.phase_count),
        deaths_(size_t{instance.phase_count} + 1) {
    uint64_t all = 0;
    for (uint32_t block = 0; block < instance.block_count(); ++block) {
      all += instance.ClassOf(block).bytes;
      births_[instance.birth[block]].push_back(block);
      deaths_[instance.death[block]].push_back(block);
    }
    for (const Tier& tier : instance.tiers) limited_.push_back(tier.capacity_bytes < all);
  }

  std::vector<Path> Run(const std::function<bool()>& go_on) {
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      if (!go_on() || !StartPhase(phase)) return {};
    }
    return std::move(paths_);
  }

 private:
  // Decides the states at the start of a phase.
  bool StartPhase(uint32_t phase) {
    for (const uint32_t block : deaths_[phase]) Occupy(block, State(block), false);
    for (const uint32_t block : births_[phase]) {
      if (!MoveDown(block, phase, 0)) return false;
    }
    if (phase > 0) {
      uint32_t before = 0xffffffff;
      for (const uint32_t block : readers_.Of(phase - 1)) {
        if (block == before || instance_.death[block] <= phase) continue;
        before = block;
        if (!MoveDown(block, phase, 0)) return false;
      }
    }
    // A block that cannot be read where it is comes up now.
    for (const uint32_t block : readers_.Of(phase)) {
      if (!Serves(block, phase, State(block)) && !MoveDown(block, phase, 0)) return false;
    }
    for (size_t j = 0; j < used_.size(); ++j) {
      while (used_[j] > instance_.tiers[j].capacity_bytes) {
        if (residents_[j].empty()) return false;
        const Resident farthest = residents_[j].top();
        residents_[j].pop();
        if (farthest.version != version_[farthest.block]) continue;
        if (instance_.death[farthest.block] <= phase) continue;
        const std::vector<StateIndex>& order = OrderOf(farthest.block);
        const size_t rank = static_cast<size_t>(
            std::find(order.begin(), order.end(), State(farthest.block)) - order.begin());
        // What no slower state can take stays, and another has to leave.
        (void)MoveDown(farthest.block, phase, rank + 1);
        // It may have left for a state of a tier before this one.
        if (version_[farthest.block] != farthest.version) j = 0;
      }
    }
    return true;
  }

  const std::vector<StateIndex>& OrderOf(uint32_t block) const {
    return orders_[instance_.ClassOf(block).table];
  }
  StateIndex State(uint32_t block) const { return paths_[block].back().state; }

  // Into the fastest state from `rank` on that it can be in at the start of `phase`.
  bool MoveDown(uint32_t block, uint32_t phase, size_t rank) {
    const std::vector<StateIndex>& order = OrderOf(block);
    for (; rank < order.size(); ++rank) {
      if (CanBeIn(block, phase, order[rank])) {
        Enter(block, phase, order[rank]);
        return true;
      }
    }
    return false;
  }

  bool CanBeIn(uint32_t block, uint32_t phase, StateIndex state) const {
    if (!Serves(block, phase, state)) return false;
    if (phase == instance_.birth[block]) {
      return ((instance_.ClassOf(block).start_states >> state) & 1) != 0;
    }
    const StateIndex from = Before(block, phase);
    return !instance_.TableOf(block).Options(Count(block, phase - 1), from, state).empty();
  }

  // The state in which it was in the phase before.
  StateIndex Before(uint32_t block, uint32_t phase) const {
    const Path& path = paths_[block];
    const bool decided = path.back().phase == phase && path.size() > 1;
    return decided ? path[path.size() - 2].state : path.back().state;
  }

  uint32_t Count(uint32_t block, uint32_t phase) const {
    const absl::Span<const uint32_t> accesses = instance_.Accesses(block);
    const auto range = std::equal_range(accesses.begin(), accesses.end(), phase);
    return static_cast<uint32_t>(range.second - range.first);
  }

  // Whether it can be read in `phase` if it is read then at all, and then go on.
  bool Serves(uint32_t block, uint32_t phase, StateIndex state) const {
    const uint32_t count = Count(block, phase);
    if (count == 0) return true;
    return !instance_.TableOf(block).Options(count, state, state).empty();
  }

  void Enter(uint32_t block, uint32_t phase, StateIndex state) {
    Path& path = paths_[block];
    if (!path.empty()) Occupy(block, path.back().state, false);
    if (!path.empty() && path.back().phase == phase) path.pop_back();
    if (path.empty() || path.back().state != state) path.push_back({phase, state});
    Occupy(block, state, true);
    ++version_[block];
    const absl::Span<const uint32_t> accesses = instance_.Accesses(block);
    uint64_t& next = next_access_[block];
    while (next < instance_.first_access[block + 1] && instance_.access_phase[next] < phase) ++next;
    const uint32_t next_phase = next < instance_.first_access[block] + accesses.size()
                                    ? instance_.access_phase[next]
                                    : instance_.phase_count;
    const TierSet tiers = instance_.TableOf(block).states()[state];
    for (size_t j = 0; j < residents_.size(); ++j) {
      if (((tiers >> j) & 1) != 0 && limited_[j])
        residents_[j].push({next_phase, block, version_[block]});
    }
  }

  void Occupy(uint32_t block, StateIndex state, bool in) {
    const TierSet tiers = instance_.TableOf(block).states()[state];
    const uint64_t bytes = instance_.ClassOf(block).bytes;
    for (size_t j = 0; j < used_.size(); ++j) {
      if (((tiers >> j) & 1) != 0) used_[j] += in ? bytes : -bytes;
    }
  }

  const Instance& instance_;
  const PhaseReaders& readers_;
  const std::vector<std::vector<StateIndex>> orders_;
  std::vector<Path> paths_;
  std::vector<uint32_t> version_;                         // by block
  std::vector<uint64_t> next_access_;                     // by block, index of the first not behind
  std::vector<std::priority_queue<Resident>> residents_;  // by tier; the farthest read on top
  std::vector<bool> limited_;   // by tier: whether blocks can be too many for it
  std::vector<uint64_t> used_;  // by tier, bytes
  std::vector<std::vector<uint32_t>> births_, deaths_;  // by phase
};

}  // namespace

std::vector<Path> BatchMin(const Instance& instance, const PhaseReaders& readers,
                           const std::function<bool()>& go_on) {
  return Min(instance, readers).Run(go_on);
}

}  // namespace kvtier::bound
