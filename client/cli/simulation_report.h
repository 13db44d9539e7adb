// What simulations came to, as JSON.
#pragma once

#include <string>
#include <vector>

#include "client/cli/command.h"
#include "sim/simulation_result.h"

namespace kvtier::cli {

// Usage error unless all are names of policies, none of them twice; of --policies also "none"
// alone. `option` is what the error calls it.
absl::Status CheckPolicies(absl::string_view option, const std::vector<std::string>& policies);

// At least time_s, hit_rate and hit_rate_by_tier. `seconds` is what the simulation took; `phases`
// adds two numbers a phase.
Json SimulationJson(const sim::SimulationResult& result, double seconds, bool phases);

// What of it stands beside a bound: time_s, stall_s, hit_rate, hit_rate_last_half, hit_rate_by_tier
// and bytes_by_link.
Json PolicyJson(const sim::SimulationResult& result);

// Of tables: the name, with a star where the policy knows the future; and a line about the star, on
// the standard output, if one of these does.
std::string StarredPolicy(const std::string& policy);
void PrintStar(const std::vector<sim::SimulationResult>& results);
// If chunks were refused: that, and for which policy most.
void PrintRefused(const std::vector<sim::SimulationResult>& results);

}  // namespace kvtier::cli
