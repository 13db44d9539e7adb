// Any trace on any machine, simulated: what the commands that simulate, bound and compare have in
// common.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "sim/machine.h"
#include "sim/model_spec.h"
#include "sim/placement_problem.h"
#include "sim/simulation_faults.h"
#include "sim/simulation_result.h"
#include "tiering/base/stop_check.h"

namespace kvtier::sim {

struct SimulationOptions {
  SimFaults faults{};
  // Of traces of requests: PrefixSimulationOptions.
  bool settle = false;
  uint64_t segment_bytes = 0;
  // Ends it, which is CANCELLED then. May be empty.
  StopCheck stop{};
};

// At most about so many accesses are simulated in each trial for the policy `sa`.
inline constexpr uint64_t kLookAheadAccesses = 20'000;

// With the same phases, tiers and requests as MakeProblem's instance of the same `problem`, so that
// no policy takes less time than a bound of that. `policy`: policy_factory.h; `sa` first tries
// look-aheads on the first requests or steps (look_ahead_search.h). A function of its
// arguments. Errors: as MakePrefixWorkload, SimulatePrefix and SimulateAttention, of which
// RESOURCE_EXHAUSTED says that the machine is too small for the engine; CANCELLED by
// `simulation.stop`, which is asked several times a second; INVALID_ARGUMENT for
// options of one kind of trace with another.
absl::StatusOr<SimulationResult> SimulateTrace(const AnyTrace& trace, const Machine& machine,
                                               const ModelSpec& model,
                                               const ProblemOptions& problem,
                                               const std::string& policy,
                                               const SimulationOptions& simulation = {});

}  // namespace kvtier::sim
