#include "tiering/bound/primal/exchange_search.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "tiering/base/rng.h"
#include "tiering/bound/primal/move_costs.h"
#include "tiering/bound/primal/path_edges.h"
#include "tiering/bound/primal/router.h"

namespace kvtier::bound {
namespace {

constexpr size_t kExchangesBetweenQuestions = 1024;
// Blocks drawn to find one that lies in a full phase without being read.
constexpr size_t kDraws = 64;

class Exchange {
 public:
  Exchange(WorkingSchedule& schedule, const PathPrices& prices, const ExchangeOptions& options)
      : schedule_(schedule),
        instance_(schedule.instance()),
        options_(options),
        rng_(options.seed),
        moves_(schedule, prices, options.weights),
        router_(schedule, prices, moves_, options.weights),
        wish_moves_(schedule, prices, {options.weights.edges, 1}),
        wish_router_(schedule, prices, wish_moves_, {options.weights.edges, 1}),
        least_(1e-9 * schedule.Seconds() / instance_.phase_count) {
    wish_router_.set_room_until(0);
  }

  bool Try(size_t block) {
    done_.clear();
    Path wish;
    Path old = schedule_.Take(block);
    const double wished = wish_router_.Route(block, old, wish);
    if (wish == old || wished >= wish_router_.Cost(block, old) - least_) {
      schedule_.Put(block, std::move(old));
      return false;
    }
    double change = router_.Cost(block, wish) - router_.Cost(block, old);
    schedule_.Put(block, wish);
    done_.push_back({block, std::move(old)});
    for (size_t tried = 0; tried < options_.leavers_tried; ++tried) {
      const Full full = FirstFull(wish, instance_.death[block], block);
      if (full.phase == Room::kNone) {
        if (change >= -least_) break;
        Refresh();
        return true;
      }
      const size_t leaver = FindLeaver(full);
      if (leaver == SIZE_MAX) break;
      Path left = schedule_.Take(leaver);
      Path path;
      const double cost = router_.Route(leaver, left, path);
      if (cost == Router::kInfinite) {
        schedule_.Put(leaver, std::move(left));
        continue;
      }
      change += cost - router_.Cost(leaver, left);
      schedule_.Put(leaver, std::move(path));
      done_.push_back({leaver, std::move(left)});
    }
    for (size_t i = done_.size(); i-- > 0;) {
      (void)schedule_.Take(done_[i].first);
      schedule_.Put(done_[i].first, std::move(done_[i].second));
    }
    return false;
  }

 private:
  struct Full {
    size_t tier = 0;
    uint32_t phase = Room::kNone;
    size_t last = 0;  // the last phase over capacity of the stay that has the first
    size_t block = 0;
  };

  // Where along a path a tier is over capacity.
  Full FirstFull(const Path& path, uint32_t death, size_t block) const {
    const std::vector<TierSet>& states = instance_.TableOf(block).states();
    for (size_t i = 0; i < path.size(); ++i) {
      const uint32_t end = i + 1 < path.size() ? path[i + 1].phase : death;
      for (size_t j = 0; j < instance_.tiers.size(); ++j) {
        if (((states[path[i].state] >> j) & 1) == 0 || !schedule_.room().limited(j)) continue;
        const uint32_t phase = schedule_.room().FirstBelow(j, path[i].phase, end, 0);
        if (phase == Room::kNone) continue;
        return {j, phase, schedule_.room().LastBelow(j, phase, end, 0), block};
      }
    }
    return {};
  }

  // Of the blocks drawn that lie in the tier in that phase, the one that is not read for longest
  // around it, up to the last phase that is full.
  size_t FindLeaver(const Full& full) {
    size_t best = SIZE_MAX;
    uint32_t best_length = 0;
    size_t found = 0;
    for (size_t draw = 0; draw < kDraws && found < 3; ++draw) {
      const size_t block = rng_.Below(instance_.block_count());
      if (block == full.block || instance_.birth[block] > full.phase ||
          instance_.death[block] <= full.phase || !LiesIn(block, full)) {
        continue;
      }
      const absl::Span<const uint32_t> accesses = instance_.Accesses(block);
      const auto next = std::lower_bound(accesses.begin(), accesses.end(), full.phase);
      const uint32_t until = next == accesses.end() ? instance_.death[block] : *next;
      if (until == full.phase) continue;
      ++found;
      const uint32_t length = std::min<uint32_t>(until, static_cast<uint32_t>(full.last) + 1);
      if (best != SIZE_MAX && length <= best_length) continue;
      best = block;
      best_length = length;
    }
    return best;
  }

  bool LiesIn(size_t block, const Full& full) const {
    const Path& path = schedule_.path(block);
    const auto behind =
        std::upper_bound(path.begin(), path.end(), full.phase,
                         [](uint32_t at, const StateChange& change) { return at < change.phase; });
    const TierSet tiers = instance_.TableOf(block).states()[std::prev(behind)->state];
    return ((tiers >> full.tier) & 1) != 0;
  }

  // Takes up what the blocks of done_ changed.
  void Refresh() {
    const auto refresh = [this](uint32_t phase, uint32_t, StateIndex, StateIndex) {
      moves_.Refresh(phase);
      wish_moves_.Refresh(phase);
    };
    for (const auto& [block, old] : done_) {
      ForEachEdge(instance_, block, old, refresh);
      ForEachEdge(instance_, block, schedule_.path(block), refresh);
    }
  }

  WorkingSchedule& schedule_;
  const Instance& instance_;
  const ExchangeOptions& options_;
  Rng rng_;
  MoveCosts moves_;
  Router router_;
  MoveCosts wish_moves_;
  Router wish_router_;
  const double least_;
  std::vector<std::pair<size_t, Path>> done_;  // blocks that changed and their paths before
};

}  // namespace

size_t ImproveByExchange(WorkingSchedule& schedule, const PathPrices& prices,
                         const ExchangeOptions& options, const std::function<bool()>& go_on) {
  Exchange exchange(schedule, prices, options);
  const size_t blocks = schedule.instance().block_count();
  size_t exchanged = 0;
  for (size_t pass = 0; pass < options.passes; ++pass) {
    const double before = schedule.Seconds();
    for (size_t block = 0; block < blocks; ++block) {
      if (block % kExchangesBetweenQuestions == 0 && !go_on()) return exchanged;
      if (exchange.Try(block)) ++exchanged;
    }
    if (before - schedule.Seconds() < options.least_gain * before) break;
  }
  return exchanged;
}

}  // namespace kvtier::bound
