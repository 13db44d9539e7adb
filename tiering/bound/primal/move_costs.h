// In which phase of a gap between accesses a block had best be moved.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tiering/bound/instance.h"
#include "tiering/bound/primal/path_prices.h"
#include "tiering/bound/primal/working_schedule.h"

namespace kvtier::bound {

// For each table and pair of states, and each phase: what moving a block of middling size there
// would add to the phase's time, plus a little of what it costs at the bound's prices. That of
// other sizes is taken to be in the same order; the router asks exactly when it has chosen. Kept in
// runs of phases with the place of their least cost. Not thread-safe.
class MoveCosts {
 public:
  static constexpr uint32_t kNone = 0xffffffff;

  MoveCosts(const WorkingSchedule& schedule, const PathPrices& prices, PriceWeights weights);

  // Takes up the present times of a phase, or of all.
  void Refresh(uint32_t phase);
  void RefreshAll();

  // The cheapest phase of [begin, end), or kNone if it is empty or nothing leads from one state to
  // the other without access. Of equals the last if the block occupies more afterwards, else the
  // first.
  uint32_t Cheapest(size_t table, StateIndex from, StateIndex to, uint32_t begin,
                    uint32_t end) const;

 private:
  struct Move {
    size_t table = 0;
    StateIndex from = 0;
    StateIndex to = 0;
    bool late = false;               // of equals the last
    double room_weight = 0;          // that of prices, times the middling block's bytes
    std::vector<double> edge;        // seconds by cut of the middling block
    std::vector<double> seconds;     // by phase
    std::vector<uint32_t> cheapest;  // by run
  };
  static constexpr uint32_t kRun = 64;

  double Cost(const Move& move, uint32_t phase) const;
  uint32_t Scan(const Move& move, uint32_t begin, uint32_t end) const;
  bool Better(const Move& move, double seconds, double than) const {
    return move.late ? seconds <= than : seconds < than;
  }

  const WorkingSchedule* schedule_;
  const PathPrices* prices_;
  PriceWeights weights_;
  std::vector<uint32_t> typical_class_;  // by table
  std::vector<Move> moves_;
  std::vector<size_t> move_of_;  // [table][from][to], number in moves_ or SIZE_MAX
};

}  // namespace kvtier::bound
