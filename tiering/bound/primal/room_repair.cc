#include "tiering/bound/primal/room_repair.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <queue>
#include <tuple>
#include <utility>
#include <vector>

#include "tiering/bound/primal/move_costs.h"
#include "tiering/bound/primal/path_edges.h"
#include "tiering/bound/primal/router.h"

namespace kvtier::bound {
namespace {

// Against the exact increase of phases that still are over capacity, the prices say more about what
// a way is worth.
constexpr PriceWeights kWeights = {0.5, 0.5};
constexpr uint32_t kPhasesBetweenQuestions = 16;

// A block's gap between accesses, behind which it is read in phase `next`.
struct Gap {
  uint32_t length = 0;
  uint32_t next = 0;
  uint32_t block = 0;
  bool operator<(const Gap& other) const {
    return std::tie(length, other.block) < std::tie(other.length, block);
  }
};

class Repair {
 public:
  Repair(WorkingSchedule& schedule, const PathPrices& prices, const PhaseReaders& readers)
      : schedule_(schedule),
        instance_(schedule.instance()),
        readers_(readers),
        moves_(schedule, prices, kWeights),
        router_(schedule, prices, moves_, kWeights),
        gaps_(instance_.tiers.size()),
        entering_(instance_.phase_count) {
    for (size_t block = 0; block < instance_.block_count(); ++block) Note(block, 0);
  }

  bool Run(const std::function<bool()>& go_on) {
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      if (phase % kPhasesBetweenQuestions == 0 && !go_on()) return false;
      for (const uint32_t block : entering_[phase]) Enter(block, phase);
      entering_[phase] = {};
      if (phase > 0) {
        for (const uint32_t block : readers_.Of(phase - 1)) {
          if (instance_.death[block] > phase) Enter(block, phase);
        }
      }
      for (size_t j = 0; j < instance_.tiers.size(); ++j) {
        while (schedule_.room().limited(j) && schedule_.room().Free(j, phase) < 0) {
          if (gaps_[j].empty()) return false;
          const Gap gap = gaps_[j].top();
          gaps_[j].pop();
          if (gap.next >= phase && instance_.death[gap.block] > phase &&
              IsIn(gap.block, j, phase)) {
            Reroute(gap.block, phase);
          }
        }
      }
    }
    return true;
  }

 private:
  // Remembers in which phases from `since` on the block comes into another state.
  void Note(size_t block, uint32_t since) {
    for (const StateChange& change : schedule_.path(block)) {
      if (change.phase >= since) entering_[change.phase].push_back(static_cast<uint32_t>(block));
    }
  }

  TierSet TiersAt(size_t block, uint32_t phase) const {
    const Path& path = schedule_.path(block);
    auto behind =
        std::upper_bound(path.begin(), path.end(), phase,
                         [](uint32_t at, const StateChange& change) { return at < change.phase; });
    return instance_.TableOf(block).states()[std::prev(behind)->state];
  }
  bool IsIn(size_t block, size_t tier, uint32_t phase) const {
    return ((TiersAt(block, phase) >> tier) & 1) != 0;
  }

  void Enter(uint32_t block, uint32_t phase) {
    const absl::Span<const uint32_t> accesses = instance_.Accesses(block);
    const auto next = std::lower_bound(accesses.begin(), accesses.end(), phase);
    Gap gap;
    gap.block = block;
    gap.next = next == accesses.end() ? instance_.phase_count : *next;
    gap.length = gap.next - (next == accesses.begin() ? instance_.birth[block] : *std::prev(next));
    const TierSet tiers = TiersAt(block, phase);
    for (size_t j = 0; j < gaps_.size(); ++j) {
      if (((tiers >> j) & 1) != 0 && schedule_.room().limited(j)) gaps_[j].push(gap);
    }
  }

  void Reroute(uint32_t block, uint32_t phase) {
    router_.set_room_until(phase + 1);
    Path old = schedule_.Take(block);
    Path path;
    if (router_.Route(block, old, path) == Router::kInfinite) {
      schedule_.Put(block, std::move(old));
      return;
    }
    schedule_.Put(block, path);
    const auto refresh = [this](uint32_t changed, uint32_t, StateIndex, StateIndex) {
      moves_.Refresh(changed);
    };
    ForEachEdge(instance_, block, old, refresh);
    ForEachEdge(instance_, block, path, refresh);
    Note(block, phase + 1);
  }

  WorkingSchedule& schedule_;
  const Instance& instance_;
  const PhaseReaders& readers_;
  MoveCosts moves_;
  Router router_;
  std::vector<std::priority_queue<Gap>> gaps_;   // by tier; may hold blocks that have left
  std::vector<std::vector<uint32_t>> entering_;  // by phase, blocks
};

}  // namespace

bool RepairRoom(WorkingSchedule& schedule, const PathPrices& prices, const PhaseReaders& readers,
                const std::function<bool()>& go_on) {
  return Repair(schedule, prices, readers).Run(go_on);
}

}  // namespace kvtier::bound
