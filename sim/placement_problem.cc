#include "sim/placement_problem.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/input_file.h"
#include "sim/trace_reader.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {
namespace {

// As it was asked for, else as the machine reads.
AttentionMode WantedMode(const Machine& machine, const ProblemOptions& options) {
  return options.mode.value_or(machine.read_mode == ReadMode::kInPlace ? AttentionMode::kInPlace
                                                                       : AttentionMode::kStream);
}

absl::StatusOr<PlacementProblem> OfPrompts(const Trace& trace, const Machine& machine,
                                           const ModelSpec& model, const ProblemOptions& options) {
  KVTIER_RETURN_IF_ERROR(CheckForRequests(options));
  KVTIER_ASSIGN_OR_RETURN(const PrefixWorkload workload,
                          MakePrefixWorkload(trace, model,
                                             {.requests_max = options.requests_max,
                                              .sessions = options.sessions,
                                              .seed = options.seed,
                                              .stop = options.stop}));
  KVTIER_ASSIGN_OR_RETURN(PrefixInstance made,
                          MakePrefixInstance(workload, machine, model, options.tier_names));
  PlacementProblem problem{.instance = std::move(made.instance),
                           .schedules = std::move(made.schedules)};
  problem.blocks = workload.chunks.size();
  problem.accesses = workload.request_chunks.size();
  problem.uncached_s = made.uncached_s;
  return problem;
}

absl::StatusOr<PlacementProblem> OfAttention(const AttentionTrace& trace, const Machine& machine,
                                             const ModelSpec& model,
                                             const ProblemOptions& options) {
  KVTIER_ASSIGN_OR_RETURN(const AttentionMode mode, ModeOf(machine, options));
  KVTIER_ASSIGN_OR_RETURN(
      AttentionInstance made,
      MakeAttentionInstance(
          trace, machine, model,
          {.tier_names = options.tier_names,
           .phase = options.phase,
           .mode = mode,
           .steps_max = static_cast<uint32_t>(std::min<uint64_t>(options.requests_max, kStepsMax)),
           .staging_bytes = options.staging_bytes}));
  PlacementProblem problem{.instance = std::move(made.instance),
                           .schedules = std::move(made.schedules)};
  problem.blocks = uint64_t{trace.geometry.planes} * trace.geometry.BlocksAt(made.steps);
  problem.accesses = problem.instance.access_count();
  return problem;
}

}  // namespace

absl::Status CheckForRequests(const ProblemOptions& options) {
  if (options.phase == AttentionPhase::kStep && !options.mode && options.staging_bytes == 0)
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      "a trace of requests has requests as phases: layers, modes and staging are for attention "
      "traces");
}

absl::StatusOr<AttentionMode> ModeOf(const Machine& machine, const ProblemOptions& options) {
  const AttentionMode mode = WantedMode(machine, options);
  if (options.staging_bytes == 0 || mode == AttentionMode::kStream) return mode;
  return absl::InvalidArgumentError(
      "staging is for reads that stream through it, and nothing streams here");
}

absl::StatusOr<AnyTrace> ReadAnyTrace(const std::string& path, uint32_t block_tokens,
                                      uint64_t requests_max) {
  // Its first bytes say what it is, and those of a pipe can be read once only.
  if (IsPipeOrDevice(path)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is a pipe or a device; a file or a directory is needed"));
  }
  if (IsAttentionTrace(path)) {
    KVTIER_ASSIGN_OR_RETURN(AttentionTrace trace, ReadAttentionTrace(path));
    return trace;
  }
  KVTIER_ASSIGN_OR_RETURN(
      Trace trace, ReadTrace(path, {.block_tokens = block_tokens, .requests_max = requests_max}));
  return trace;
}

absl::StatusOr<ProblemTerms> TermsOf(const AnyTrace& trace, const Machine& machine,
                                     const ModelSpec& model, const ProblemOptions& options) {
  KVTIER_ASSIGN_OR_RETURN(MachineParts parts, MakeMachineParts(machine, model, options.tier_names));
  ProblemTerms terms{.tiers = std::move(parts.tiers), .inclusive = parts.inclusive};
  const auto* const prompts = std::get_if<Trace>(&trace);
  terms.block_tokens = prompts != nullptr ? prompts->block_tokens
                                          : std::get<AttentionTrace>(trace).geometry.block_tokens;
  if (parts.machine_tier.front() != 0)
    terms.gpu_memory_bytes = machine.tiers.front().capacity_bytes;
  terms.phase = prompts != nullptr                        ? "request"
                : options.phase == AttentionPhase::kLayer ? "layer"
                                                          : "step";
  if (prompts != nullptr) return terms;
  const AttentionMode mode = WantedMode(machine, options);
  terms.mode = mode == AttentionMode::kInPlace  ? "in_place"
               : mode == AttentionMode::kStream ? "stream"
                                                : "strict";
  return terms;
}

absl::StatusOr<PlacementProblem> MakeProblem(const AnyTrace& trace, const Machine& machine,
                                             const ModelSpec& model,
                                             const ProblemOptions& options) {
  const auto* const prompts = std::get_if<Trace>(&trace);
  KVTIER_ASSIGN_OR_RETURN(
      PlacementProblem problem,
      prompts != nullptr ? OfPrompts(*prompts, machine, model, options)
                         : OfAttention(std::get<AttentionTrace>(trace), machine, model, options));
  KVTIER_ASSIGN_OR_RETURN(problem.terms, TermsOf(trace, machine, model, options));
  return problem;
}

}  // namespace kvtier::sim
