// What the rest of a block's life costs at the bound's prices.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "tiering/bound/instance.h"
#include "tiering/bound/phase_table.h"
#include "tiering/bound/primal/path_prices.h"

namespace kvtier::bound {

// The cheapest path from a state and a phase on, with the cost of reads, moves and room at the
// prices, room not asked for; seconds a byte. Between two accesses a block stays or moves once, in
// the cheapest phase, which a table of cheapest phases of runs has at hand: so a question takes
// time in proportion to the states, and preparing them to the accesses and the square of the
// states, times the resources. States in which a block cannot idle for nothing are for phases with
// an access only. Keeps a float for each access and state, and for each table, pair of states and
// phase 8 bytes and 4 times the logarithm of the phases. `instance` and `prices` stay valid.
// Immutable once prepared, then safe to read from any thread.
class CostToGo {
 public:
  static constexpr double kInfinite = std::numeric_limits<double>::infinity();
  static constexpr uint32_t kNone = 0xffffffff;

  CostToGo(const Instance& instance, const PathPrices& prices);
  // Entries of its tables of moves, before there are any: what making one takes and keeps.
  static uint64_t TableEntries(const Instance& instance);

  // Prepares the answers for all blocks. False once `go_on`, asked now and then, has returned
  // false; then nothing may be asked.
  bool Prepare(const std::function<bool()>& go_on);

  // A block at the start of `phase` of its life; `next` is its first access of that phase or behind
  // it, as an index into Instance::access_phase, or the first of the next block.
  struct Place {
    uint32_t block = 0;
    uint32_t phase = 0;
    uint64_t next = 0;
  };
  // By state, up to a number that is the same for all of them.
  using Costs = std::array<double, kStatesMax>;
  // `stay`: if it stays where it is up to the next access; `cost`: if it does the best from there.
  void Ask(const Place& place, Costs& cost, Costs& stay) const;
  // One state's `cost` or `stay` of Ask alone.
  double Cost(const Place& place, StateIndex state) const;
  double Stay(const Place& place, StateIndex state) const;
  // The phase in which it had best move on from `state`, or kNone if it should stay until it is
  // read.
  uint32_t BestMove(const Place& place, StateIndex state) const;

  // Whether it may be in the state in a phase without access.
  bool Idles(size_t table, StateIndex state) const { return idles_[table * kStatesMax + state]; }

 private:
  // A move in a phase without access.
  struct Move {
    size_t table = 0;
    StateIndex from = 0;
    StateIndex to = 0;
    // By phase: what it costs there, and the room in the old state up to then less that in the new
    // one.
    std::vector<double> cost;
    std::vector<uint32_t> cheapest;  // by entry of the phase table
  };

  void AddMove(size_t table, uint32_t block_class, StateIndex from, StateIndex to);
  void PrepareBlock(size_t block);
  // Where the next access is, or, without one, the life's last phase; and what is to come from
  // there.
  uint32_t NextPhase(const Place& place) const;
  Costs Ahead(const Place& place) const;
  double Stayed(size_t table, StateIndex state, const Place& place, uint32_t next,
                const Costs& ahead) const;
  // The first cheapest phase of [begin, end) for a move, which is not empty.
  uint32_t Cheapest(const Move& move, uint32_t begin, uint32_t end) const;
  // What moving costs at best, and when.
  double Moved(const Move& move, const Place& place, uint32_t next, const Costs& ahead,
               uint32_t& phase) const;

  const Instance& instance_;
  const PathPrices& prices_;
  const PhaseTable phase_table_;
  size_t states_max_ = 0;
  std::vector<uint8_t> idles_;            // [table][state]
  std::vector<std::vector<Move>> moves_;  // [table * kStatesMax + from]
  std::vector<float> ahead_;              // [access][state], of the first of equal ones
};

}  // namespace kvtier::bound
