#include "tiering/bound/primal/local_search.h"

#include <utility>

#include "tiering/bound/primal/move_costs.h"
#include "tiering/bound/primal/path_edges.h"
#include "tiering/bound/primal/router.h"

namespace kvtier::bound {
namespace {

constexpr size_t kBlocksBetweenQuestions = 256;

void RefreshPath(const Instance& instance, size_t block, const Path& path, MoveCosts& moves) {
  ForEachEdge(instance, block, path,
              [&moves](uint32_t phase, uint32_t, StateIndex, StateIndex) { moves.Refresh(phase); });
}

}  // namespace

size_t ImproveLocally(WorkingSchedule& schedule, const PathPrices& prices,
                      const LocalSearchOptions& options, const std::function<bool()>& go_on) {
  const Instance& instance = schedule.instance();
  const size_t blocks = instance.block_count();
  MoveCosts moves(schedule, prices, options.weights);
  Router router(schedule, prices, moves, options.weights);
  // Less than this is rounding.
  const double least = 1e-9 * schedule.Seconds() / instance.phase_count;
  size_t changed = 0;
  Path path;
  for (size_t pass = 0; pass < options.passes; ++pass) {
    const double before = schedule.Seconds();
    size_t changed_now = 0;
    for (size_t i = 0; i < blocks; ++i) {
      if (i % kBlocksBetweenQuestions == 0 && !go_on()) return changed + changed_now;
      // Back and forth, so that no block is always the last to choose.
      const size_t block = pass % 2 == 0 ? i : blocks - 1 - i;
      Path old = schedule.Take(block);
      const double cost = router.Route(block, old, path);
      if (path == old || cost >= router.Cost(block, old) - least) {
        schedule.Put(block, std::move(old));
        continue;
      }
      schedule.Put(block, path);
      RefreshPath(instance, block, old, moves);
      RefreshPath(instance, block, path, moves);
      ++changed_now;
    }
    changed += changed_now;
    if (changed_now == 0 || before - schedule.Seconds() < options.least_gain * before) break;
  }
  return changed;
}

}  // namespace kvtier::bound
