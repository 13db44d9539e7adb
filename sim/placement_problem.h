// Any trace on any machine as a placement problem: what the commands that bound, plan and compare
// have in common.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/attention_instance.h"
#include "sim/attention_trace.h"
#include "sim/machine.h"
#include "sim/model_spec.h"
#include "sim/prefix_instance.h"
#include "sim/prefix_workload.h"
#include "sim/schedule_terms.h"
#include "sim/trace.h"
#include "tiering/base/stop_check.h"
#include "tiering/bound/instance.h"

namespace kvtier::sim {

using AnyTrace = std::variant<Trace, AttentionTrace>;

// An attention trace by its first bytes, else as ReadTrace; errors are those of the readers.
absl::StatusOr<AnyTrace> ReadAnyTrace(const std::string& path, uint32_t block_tokens,
                                      uint64_t requests_max);

struct ProblemOptions {
  std::vector<std::string> tier_names{};  // that may hold cache; empty: all of the machine's
  uint64_t requests_max = kRequestsMax;   // or steps of an attention trace
  uint32_t sessions = 1;                  // that run at a time
  uint64_t seed = 0;                      // of their order
  // Of attention traces; others have requests as phases, and no modes.
  AttentionPhase phase = AttentionPhase::kStep;
  std::optional<AttentionMode> mode{};  // none: as the machine reads
  // Of simulations that stream: MakeStagingBuffers; 0: as large as that has them by default.
  uint64_t staging_bytes = 0;
  // Ends the making of a problem of requests, which is CANCELLED then. May be empty.
  StopCheck stop{};
};

// INVALID_ARGUMENT if they ask of a trace of requests what is for attention traces.
absl::Status CheckForRequests(const ProblemOptions& options);
// Of an attention trace. INVALID_ARGUMENT: staging without streaming.
absl::StatusOr<AttentionMode> ModeOf(const Machine& machine, const ProblemOptions& options);

// What a problem and a simulation of the same arguments have in common.
struct ProblemTerms {
  std::vector<bound::Tier> tiers{};  // that may hold cache, the GPU's own without the weights
  // Of the GPU's own memory, with the weights, where it is none of them: buffers for staging are a
  // part of it in any case.
  std::optional<uint64_t> gpu_memory_bytes{};
  bool inclusive = false;     // the last of them holds a copy of all that is stored
  std::string phase{};        // "request", "step" or "layer"
  std::string mode{};         // "in_place", "stream" or "strict"; empty of requests
  uint32_t block_tokens = 0;  // of the trace
};

// Errors: as MakeMachineParts.
absl::StatusOr<ProblemTerms> TermsOf(const AnyTrace& trace, const Machine& machine,
                                     const ModelSpec& model, const ProblemOptions& options);

struct PlacementProblem {
  bound::Instance instance;
  ScheduleTerms schedules{};
  ProblemTerms terms{};
  // Of the trace, with those about which nothing can be decided and which the instance leaves out.
  uint64_t blocks = 0;
  uint64_t accesses = 0;
  // Of requests: what they take where nothing is kept.
  std::optional<double> uncached_s{};
};

// INVALID_ARGUMENT: as MakePrefixWorkload, MakePrefixInstance and MakeAttentionInstance; or options
// of one kind of trace for another.
absl::StatusOr<PlacementProblem> MakeProblem(const AnyTrace& trace, const Machine& machine,
                                             const ModelSpec& model, const ProblemOptions& options);

}  // namespace kvtier::sim
