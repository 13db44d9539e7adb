// The best way for one block while all others stay as they are.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/types/span.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/primal/move_costs.h"
#include "tiering/bound/primal/path_prices.h"
#include "tiering/bound/primal/working_schedule.h"

namespace kvtier::bound {

// Dynamic program over a block's accesses: what an edge costs is what it adds to its phase's time,
// exactly, plus a part of its cost at the bound's prices, which leads off plateaus.
// Between two accesses the block stays, or moves once, or goes and comes back, each in the cheapest
// phases that room allows; so the work is in proportion to its accesses. The block is out of the
// schedule meanwhile. Not thread-safe.
class Router {
 public:
  static constexpr double kInfinite = std::numeric_limits<double>::infinity();

  Router(const WorkingSchedule& schedule, const PathPrices& prices, const MoveCosts& moves,
         PriceWeights weights);

  // Room is asked for at the starts of phases below this only; at first of all.
  void set_room_until(uint32_t phase) { room_until_ = phase; }

  // What the path costs, room not asked for.
  double Cost(size_t block, const Path& path) const;
  // The cheapest path found, into `path`, and its cost; kInfinite if there is none with room.
  // `hints` is a path whose moves between accesses are tried as well, or empty.
  double Route(size_t block, const Path& hints, Path& path);

 private:
  using Costs = std::array<double, kStatesMax>;
  // How a state at a gap's end is best reached: from a state at its start, moving in a phase to
  // that state, or to `via` first and then in another phase.
  struct Crossing {
    StateIndex from = 0;
    StateIndex via = 0;
    uint32_t first = MoveCosts::kNone;
    uint32_t second = MoveCosts::kNone;
  };
  struct Stage {
    uint32_t begin = 0;                         // first phase start of the gap
    std::array<Crossing, kStatesMax> crossing;  // by state at its last
    std::array<StateIndex, kStatesMax> from;    // by state behind the access that follows
  };

  void Cross(uint32_t begin, uint32_t end, const Costs& in, Costs& out, Stage& stage);
  double MoveCost(uint32_t phase, StateIndex from, StateIndex to) const;
  uint32_t BestMove(StateIndex from, StateIndex to, uint32_t begin, uint32_t end) const;
  void Access(uint32_t phase, uint32_t count, bool last, const Costs& in, Costs& out, Stage& stage);
  void Trace(size_t stages, uint32_t birth, StateIndex state, bool ends_with_access, Path& path);

  const WorkingSchedule& schedule_;
  const Instance& instance_;
  const PathPrices& prices_;
  const MoveCosts& moves_;
  const PriceWeights weights_;
  uint32_t room_until_ = std::numeric_limits<uint32_t>::max();
  std::vector<std::array<bool, kStatesMax>> stays_free_;  // by table: idle staying costs nothing

  // Of the block being routed.
  uint32_t class_ = 0;
  size_t table_ = 0;
  size_t states_ = 0;
  double room_weight_ = 0;  // that of prices, times bytes
  std::vector<std::pair<uint32_t, std::pair<StateIndex, StateIndex>>> hints_;
  std::vector<Stage> stages_;
};

}  // namespace kvtier::bound
