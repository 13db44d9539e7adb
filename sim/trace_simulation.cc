#include "sim/trace_simulation.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "sim/attention_simulation.h"
#include "sim/machine_parts.h"
#include "sim/policy/look_ahead_search.h"
#include "sim/prefix_simulation.h"
#include "sim/prefix_workload.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {
namespace {

absl::StatusOr<SimulationResult> Simulate(const AnyTrace& trace, const Machine& machine,
                                          const ModelSpec& model, const ProblemOptions& problem,
                                          const std::string& policy, const LookAhead& look_ahead,
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
    options.look_ahead = look_ahead;
    options.seed = problem.seed;
    options.phase = problem.phase;
    KVTIER_ASSIGN_OR_RETURN(options.mode, ModeOf(machine, problem));
    options.staging_bytes = problem.staging_bytes;
    options.steps_max = static_cast<uint32_t>(std::min<uint64_t>(problem.requests_max, kStepsMax));
    options.faults = simulation.faults;
    options.stop = simulation.stop;
    return SimulateAttention(*attention, model, options);
  }
  KVTIER_RETURN_IF_ERROR(CheckForRequests(problem));
  KVTIER_ASSIGN_OR_RETURN(const PrefixWorkload workload,
                          MakePrefixWorkload(std::get<Trace>(trace), model,
                                             {.requests_max = problem.requests_max,
                                              .sessions = problem.sessions,
                                              .seed = problem.seed,
                                              .stop = simulation.stop}));
  PrefixSimulationOptions options;
  options.machine = machine;
  options.tiers = std::move(parts.machine_tier);
  options.policy = policy;
  options.look_ahead = look_ahead;
  options.seed = problem.seed;
  options.faults = simulation.faults;
  options.settle = simulation.settle;
  options.segment_bytes = simulation.segment_bytes;
  options.stop = simulation.stop;
  return SimulatePrefix(workload, model, options);
}

// Of the trace, so many requests or steps have about kLookAheadAccesses accesses.
uint64_t TrialRequests(const AnyTrace& trace) {
  uint64_t requests = 0, accesses = 0;
  if (const auto* attention = std::get_if<AttentionTrace>(&trace)) {
    requests = attention->geometry.steps;
    accesses = attention->first.back();
  } else {
    requests = std::get<Trace>(trace).requests.size();
    accesses = std::get<Trace>(trace).ids.size();
  }
  return std::max<uint64_t>(requests * kLookAheadAccesses / std::max<uint64_t>(accesses, 1), 1);
}

}  // namespace

absl::StatusOr<SimulationResult> SimulateTrace(const AnyTrace& trace, const Machine& machine,
                                               const ModelSpec& model,
                                               const ProblemOptions& problem,
                                               const std::string& policy,
                                               const SimulationOptions& simulation) {
  LookAhead look_ahead;
  if (policy == kLookAheadName) {
    ProblemOptions trial = problem;
    trial.requests_max = std::min(trial.requests_max, TrialRequests(trace));
    const auto time_ns = [&](const LookAhead& tried) -> absl::StatusOr<int64_t> {
      KVTIER_ASSIGN_OR_RETURN(const SimulationResult result,
                              Simulate(trace, machine, model, trial, policy, tried, simulation));
      return result.time_ns;
    };
    KVTIER_ASSIGN_OR_RETURN(look_ahead, AnnealLookAhead(problem.seed, time_ns));
  }
  return Simulate(trace, machine, model, problem, policy, look_ahead, simulation);
}

}  // namespace kvtier::sim
