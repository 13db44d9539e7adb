// The bound at given prices, and how it changes with them, in time that grows with the number of
// accesses and not with the number of phases that blocks live through.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tiering/base/executor.h"
#include "tiering/bound/cost_group.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"

namespace kvtier::bound {

// Loads and occupancy are those of the paths that the blocks take at these prices: the value is
//   sum of share x load / rate + sum of room x (occupancy - capacity),
// and its slope in a share is load / rate, in a room price occupancy - capacity.
struct Evaluation {
  double value = 0;               // seconds
  std::vector<double> load;       // [phase][resource], units, with the base load
  std::vector<double> occupancy;  // [phase][tier], bytes
};

struct HardScratch;
struct SoftScratch;

// Results are the same, to the bit, for every number of lanes. Where the executor was stopped, a
// value is less than every bound, and loads and occupancy are of no use. Holds memory of about
// phases x log2(phases) x states^2 x (8 x lanes + 17) bytes between calls. One call at a time.
class Evaluator {
 public:
  // Both must outlive it and stay as they are.
  Evaluator(const Instance& instance, Executor& executor);
  ~Evaluator();

  // The Lagrangian bound (docs/BOUND.md): each block takes a cheapest path. With `evaluation` null
  // only the value is found.
  double Hard(const Prices& prices, Evaluation* evaluation);

  // Smoothed: each byte costs -temperature x log(sum over its paths of their weights), a path's
  // weight being exp(-cost / temperature) x CostGroup::move_weight for each of its moves in phases
  // without access. It is no bound, but comes near Hard as the temperature falls. Loads and
  // occupancy are the mean over paths by weight, and the slope is exact for the smoothed value.
  // Temperature: seconds a byte, above zero; one too low for the range of numbers is raised. Null
  // as above.
  double Soft(const Prices& prices, double temperature, Evaluation* evaluation);

  const Instance& instance() const { return instance_; }
  Executor& executor() { return executor_; }
  // Whether the executor was: then no evaluation is of use any more.
  bool stopped() const { return executor_.stopped(); }

 private:
  double BaseValue(const Prices& prices, Evaluation* evaluation) const;
  double Finished(double value, Evaluation* evaluation) const;

  const Instance& instance_;
  Executor& executor_;
  std::vector<CostGroup> groups_;
  std::unique_ptr<HardScratch> hard_;
  std::unique_ptr<SoftScratch> soft_;
};

}  // namespace kvtier::bound
