#include "sim/trace_simulation.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "sim/attention_simulation.h"
#include "sim/machine_parts.h"
#include "sim/prefix_simulation.h"
#include "sim/prefix_workload.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {

absl::StatusOr<SimulationResult> SimulateTrace(const AnyTrace& trace, const Machine& machine,
                                               const ModelSpec& model,
                                               const ProblemOptions& problem,
                                               const std::string& policy,
                                               const SimulationOptions& simulation) {
  KVTIER_ASSIGN_OR_RETURN(MachineParts parts, MakeMachineParts(machine, model, problem.tier_names));
  if (const auto* attention = std::get_if<AttentionTrace>(&trace)) {
    if (simulation.settle || simulation.segment_bytes > 0) {
      return absl::InvalidArgumentError(
          "settling and segments are options of traces of requests; this is one of attention");
    }
    AttentionSimulationOptions options;
    options.machine = machine;
    options.tiers = std::move(parts.machine_tier);
    options.policy = policy;
    options.seed = problem.seed;
    options.phase = problem.phase;
    KVTIER_ASSIGN_OR_RETURN(options.mode, ModeOf(machine, problem));
    options.staging_bytes = problem.staging_bytes;
    options.steps_max = static_cast<uint32_t>(std::min<uint64_t>(problem.requests_max, kStepsMax));
    options.faults = simulation.faults;
    return SimulateAttention(*attention, model, options);
  }
  KVTIER_RETURN_IF_ERROR(CheckForRequests(problem));
  KVTIER_ASSIGN_OR_RETURN(const PrefixWorkload workload,
                          MakePrefixWorkload(std::get<Trace>(trace), model,
                                             {.requests_max = problem.requests_max,
                                              .sessions = problem.sessions,
                                              .seed = problem.seed}));
  PrefixSimulationOptions options;
  options.machine = machine;
  options.tiers = std::move(parts.machine_tier);
  options.policy = policy;
  options.seed = problem.seed;
  options.faults = simulation.faults;
  options.settle = simulation.settle;
  options.segment_bytes = simulation.segment_bytes;
  return SimulatePrefix(workload, model, options);
}

}  // namespace kvtier::sim
