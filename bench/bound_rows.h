// How near bound and best schedule come to each other, and what it costs.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bench/bound_problem.h"

namespace kvtier::bench {

// One problem and seed, on one thread. Seconds are of CPU but for `wall_s`; those of `gap`'s two
// sides are the schedule's.
struct BoundRow {
  BoundProblem problem;
  uint64_t seed = 0;
  uint64_t blocks = 0, phases = 0, accesses = 0;
  double lower_bound_s = 0, best_feasible_s = 0;
  double gap = 0;      // best feasible over bound, less one; below zero: no schedule was found
  double bound_s = 0;  // until the bound was certified
  double total_s = 0;  // with the schedule
  double wall_s = 0;   // of both
  double verify_s = 0;
  double evaluation_ns = 0;  // an access, of the bound with its loads at the final prices
  double pass_ns = 0;        // the ceiling: a pass over the accesses that looks up each one's phase
  uint64_t peak_bytes = 0;   // resident, of the process, since the problem was made
};

struct BoundRowOptions {
  std::vector<BoundProblem> problems;
  uint64_t seeds = 3;                           // 1 to so many
  std::function<void(const BoundRow&)> on_row;  // after each
  // Asked often; an error ends the run with it.
  std::function<absl::Status()> check;
};

// INTERNAL if a bound is not verified.
absl::StatusOr<std::vector<BoundRow>> BoundRows(const BoundRowOptions& options);

// {"rows": [{"name", "seed", ...}]}, indented; docs/cli.md has the fields.
std::string BoundRowsToJson(absl::Span<const BoundRow> rows);

// "0.412 %", or "none" without a schedule.
std::string GapText(const BoundRow& row);

// One line a row, and of each problem with several seeds the worst gap and times.
std::string BoundRowsToText(absl::Span<const BoundRow> rows);

}  // namespace kvtier::bench
