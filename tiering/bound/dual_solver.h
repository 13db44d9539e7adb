// The best bound within reach of an instance's size.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string_view>

#include "tiering/base/executor.h"
#include "tiering/bound/ascent.h"
#include "tiering/bound/instance.h"

namespace kvtier::bound {

struct DualOptions {
  // Of an ascent, on a sample of the blocks or on all if they are few; with more than two tiers,
  // whose prices take longest to settle, twice as many.
  uint32_t iterations = 300;
  // A problem whose iterations do not fit into `full_accesses` starts with a sample of its blocks,
  // of about so many accesses, and at least so many in each phase on average, up to a limit. Beyond
  // it phases have too few accesses each to say more than merged ones, if there are any.
  uint64_t sample_accesses = 300'000;
  uint32_t sample_accesses_per_phase = 400;
  uint64_t sample_accesses_max = 6'000'000;
  uint64_t full_accesses = 200'000'000;
  // Evaluations of the polish: as many as take so many accesses in all, but not fewer than the
  // least, and not more than twice `iterations`.
  uint64_t polish_accesses = 1'600'000'000;
  uint32_t polish_iterations_min = 8;
  // Above zero: windows of so many phases are ascended one by one, instead of the sample at once.
  uint32_t window_phases = 0;
  uint64_t seed = 1;  // of samples
  // The part of the time for all of it that has passed, 1 or more once it is up, where the callback
  // ends it by time: hot prices are of no use, so ascents cool down sooner. May be empty.
  std::function<double()> spent{};
};

struct DualProgress {
  std::string_view stage;  // special, merged, sample, window, all, cool, polish
  uint32_t iteration = 0;  // of the stage
  uint32_t iterations = 0;
  double bound = 0;  // seconds, of the whole instance; what other stages find is not one
};
// Called after each smoothed evaluation of any stage, and after each of special prices; false ends
// the solver with the best prices so far, after two evaluations at most.
using DualCallback = std::function<bool(const DualProgress&)>;

struct DualResult {
  Prices prices;
  // Before the polish, whose prices prove more but change more from phase to phase: a schedule is
  // better searched for with these. Empty without a polish, and where only a sample was ascended.
  Prices ascended;
  double bound = 0;             // seconds, Evaluator::Hard at `prices`; or not found()
  double roofline_seconds = 0;  // of RooflinePrices
  double special_seconds = 0;   // BestSpecialPrices, found on the sample if there is one
  bool ended_early = false;     // by the callback, or as the executor was stopped

  // Whether one evaluation at least came to its end before the executor was stopped: else the bound
  // is minus infinity, and the prices are of no use.
  bool found() const { return bound > -std::numeric_limits<double>::infinity(); }
};

// Special prices; then, where it pays, ascents with phases merged so that none has more accesses of
// a block than one, and without; where a problem is large all this on a sample of its blocks, with
// a short polish before; and at the end a polish on everything, which finds most where ascents
// found little: on sessions of a coding agent (3.7 million accesses) 150 evaluations raised the
// bound by 1.3 %, after a sample's 60 had raised it by 30 %. Deterministic: a function of instance
// and options, and of what `spent` and the callback say. Where the executor is stopped it ends at
// once with the best prices that were evaluated as a whole. `instance` passed Check.
DualResult SolveDual(const Instance& instance, const DualOptions& options, Executor& executor,
                     const DualCallback& progress);

}  // namespace kvtier::bound
