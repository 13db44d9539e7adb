// Where blocks are at a phase's start, and what they do in the phase before: who is placed, who
// moves and who leaves for it, in a dive (price_dive.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <queue>
#include <vector>

#include "absl/types/span.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/primal/cost_to_go.h"
#include "tiering/bound/primal/keep_order.h"
#include "tiering/bound/primal/path_prices.h"
#include "tiering/bound/primal/phase_cuts.h"

namespace kvtier::bound {

inline constexpr StateIndex kNowhere = 0xff;

// A phase at a time: Start, Occupy for those that die, Touch and Load for what is known of the
// phase before, then Place and Improve. Not thread-safe.
class PhaseMoves {
 public:
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

  // All stay valid.
  PhaseMoves(const Instance& instance, const PathPrices& prices, const PhaseCuts& cuts,
             const CostToGo& costs, std::vector<Standing>& standings, KeepOrder& keep_order);

  // Nothing is touched any more; rooms stay as they are.
  void Start(uint32_t phase);

  // None if the block is not touched. Until the next Touch.
  const Touched* Find(uint32_t block) const;
  absl::Span<const Touched> touched() const { return touched_; }

  // Adds it to those that may move, if it is not one already. It stays where it is if it can; else
  // it has no state, and takes no room.
  size_t Touch(uint32_t block, uint32_t accesses, StateIndex from, uint8_t tries);
  // Adds what it takes in its state's tiers, or takes that away with sign -1.
  void Occupy(uint32_t block, StateIndex state, int sign);
  // Adds an edge to the time of the phase before.
  void Load(uint32_t block, uint32_t accesses, StateIndex from, StateIndex to) {
    AddEdge(seconds_, block, accesses, from, to, 1);
  }

  // Gives each block that has no state one; those first that lose most with another than the best.
  // False if one finds none with room.
  bool Place();
  // Moves what gains by it, the largest gains first.
  void Improve();

 private:
  struct Candidate {
    double gain = 0;  // seconds a byte
    uint32_t slot = 0;
    uint32_t block = 0;
    bool operator<(const Candidate& other) const {
      return gain != other.gain ? gain < other.gain : block > other.block;
    }
  };

  bool Legal(const Touched& touched, StateIndex to) const;
  void AddEdge(std::vector<double>& seconds, uint32_t block, uint32_t accesses, StateIndex from,
               StateIndex to, int sign) const;
  double Bytes(uint32_t block) const { return static_cast<double>(instance_.ClassOf(block).bytes); }
  size_t Overfull() const;
  bool MayLeaveFor(uint32_t block, StateIndex to) const;
  double Shift(const Touched& touched, StateIndex at, StateIndex to);
  bool Move(size_t slot, StateIndex to, double gain);
  void Decide(size_t slot, StateIndex to);
  template <typename Visit>
  void ForEachOther(const Touched& touched, Visit visit) const;
  std::vector<StateIndex> Others(const Touched& touched) const;
  void Offer(size_t slot);

  const Instance& instance_;
  const PathPrices& prices_;
  const PhaseCuts& cuts_;
  const CostToGo& costs_;
  std::vector<Standing>& standings_;
  KeepOrder& keep_order_;
  std::vector<uint32_t> slots_;  // by block, in touched_, or kNone
  TierSet limited_ = 0;          // tiers for which blocks can be too many
  std::vector<int64_t> free_;    // by tier, bytes; below zero only while a move is tried
  uint32_t phase_ = 0;
  std::vector<Touched> touched_;
  std::vector<double> seconds_, trial_;  // of the phase before, by cut
  std::vector<KeepOrder::Leaver> leavers_;
  std::priority_queue<Candidate> candidates_;
};

}  // namespace kvtier::bound
