// What a bound and the schedule beside it say, as JSON and as text.
#pragma once

#include <optional>
#include <string>

#include "client/cli/command.h"
#include "sim/bound_run.h"
#include "sim/placement_problem.h"

namespace kvtier::cli {

// Fields lower_bound_s to links of `kvtier bound --json` (docs/cli.md).
void AppendBound(const sim::PlacementProblem& problem, const sim::BoundRun& run, Json& json);

// The same for people, printed to stdout.
void PrintBound(const sim::PlacementProblem& problem, const sim::BoundRun& run);

// "1.2345 s" in up to ten digits; "-" for none.
std::string SecondsText(std::optional<double> seconds);
// The same, not above, and not below.
std::string LowerSecondsText(double seconds);
std::string UpperSecondsText(std::optional<double> seconds);

}  // namespace kvtier::cli
