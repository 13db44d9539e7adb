// Draws paths at random, the likelier the less they cost at the bound's prices.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tiering/base/rng.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"
#include "tiering/bound/primal/path_prices.h"
#include "tiering/bound/schedule.h"

namespace kvtier::bound {

// The Gibbs distribution: a path's weight is exp(-cost per byte / temperature), with the cost of
// its cheapest options and of room, times `move_weight` for each move in a phase without access:
// a gap offers a move in each of its phases, and their number alone would make moves likelier than
// what they cost says. At
// good prices most blocks are indifferent between many paths; drawn independently, their loads come
// close to those of the linear program's optimum, where the cheapest path of each would overload
// one resource. Gaps between accesses are crossed by products of phase matrices over aligned runs
// of 2^h phases, and drawn by halving these, so that a block costs time in proportion to its
// accesses and changes, times the logarithm of the phases. Room is not asked for. Immutable; safe
// to read from any thread.
class PathSampler {
 public:
  // `temperature` in seconds a byte; `move_weight` above 0, up to 1. `instance` and `prices` stay
  // valid.
  PathSampler(const Instance& instance, const PathPrices& prices, double temperature,
              double move_weight);

  // One thread's buffers.
  struct Buffers {
    struct Segment {
      uint32_t phase = 0;     // the first
      uint32_t accesses = 0;  // of an access; with `level` kAccess or kLast
      uint32_t level = 0;     // 2^level idle phases
    };
    std::vector<Segment> segments;
    std::vector<double> ahead;  // [segment, and one more][state] weight of all that follows
  };
  // Draws a legal path; false if there is none that ends by staying where it is.
  bool Draw(size_t block, Rng& rng, Buffers& buffers, std::vector<StateChange>& path) const;

 private:
  using Matrix = std::array<double, kStatesMax * kStatesMax>;
  // A run of idle phases: weights by first and last state, and of staying throughout.
  struct Runs {
    size_t states = 0;
    std::vector<std::vector<double>> weight;  // [level][run * states^2 + from * states + to]
    std::vector<std::vector<double>> stay;    // [level][run * states + state]
  };
  static constexpr uint32_t kAccess = 100;
  static constexpr uint32_t kLast = 101;

  void FillRuns(size_t table);
  void Segments(size_t block, std::vector<Buffers::Segment>& segments) const;
  // Weights of an access's or the last phase's edges.
  void EdgeWeights(uint32_t block_class, const Buffers::Segment& segment, Matrix& weight) const;
  void DrawInside(const Runs& runs, uint32_t level, uint32_t run, StateIndex from, StateIndex to,
                  bool leaves, Rng& rng, std::vector<StateChange>& path) const;

  const Instance* instance_;
  const PathPrices* prices_;
  double temperature_;
  double move_weight_;
  std::vector<Runs> runs_;  // by table
};

}  // namespace kvtier::bound
