// What a bound and the schedule beside it say, as JSON and as text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "client/cli/command.h"
#include "sim/binding.h"
#include "sim/bound_run.h"
#include "sim/placement_problem.h"
#include "tiering/bound/instance.h"

namespace kvtier::cli {

// Fields lower_bound_s to room of `kvtier bound --json` (docs/cli.md).
void AppendBound(const sim::PlacementProblem& problem, const sim::BoundRun& run,
                 const sim::Binding& binding, Json& json);

// The same for people, printed to stdout.
void PrintBound(const sim::PlacementProblem& problem, const sim::BoundRun& run,
                const sim::Binding& binding);

// What a bound leaves out of all that an engine could do, to follow a problem's description; empty
// where nothing is recomputed.
std::string RestrictionText(const bound::Instance& instance);

// "450 GB/s", or of `compute` "756.5 TFLOP/s".
std::string RateText(absl::string_view resource, uint64_t units_per_second);

// "1.2345 s" in up to ten digits; "-" for none.
std::string SecondsText(std::optional<double> seconds);
// The same, not above, and not below.
std::string LowerSecondsText(double seconds);
std::string UpperSecondsText(std::optional<double> seconds);
// The same in five digits, for tables.
std::string ShortLowerText(double seconds);
std::string ShortUpperText(double seconds);

// A gap above it leaves open what binds.
inline constexpr double kWideGap = 0.02;

// On the standard output: what such a gap means, and what to do.
void PrintWideGap();

}  // namespace kvtier::cli
