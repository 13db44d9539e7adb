// Serves the requests of a prefix workload one after another with the production engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/machine.h"
#include "sim/model_spec.h"
#include "sim/policy/attention_policies.h"
#include "sim/prefix_workload.h"
#include "sim/simulation_faults.h"
#include "sim/simulation_result.h"
#include "tiering/base/stop_check.h"

namespace kvtier::sim {

struct PrefixSimulationOptions {
  Machine machine;
  std::vector<size_t> tiers;  // indices into machine.tiers, of those that hold blocks
  std::string policy;         // policy_factory.h
  LookAhead look_ahead;       // of policy `sa`
  uint64_t seed = 1;
  // As `kvtier replay --workers 1 --settle` does it: the same calls of the engine, which looks at
  // what is to be done between requests only, until nothing is left. Takes longer: moves begin
  // where a request has ended.
  bool settle = false;
  uint64_t segment_bytes = 0;  // SimulatedEngineOptions
  SimFaults faults;
  StopCheck stop;  // asked before each request; true ends it. May be empty
};

// A phase is one request's prefill: it looks its chunks up, reads the prefix that is there from
// where it is, computes the rest and stores it, all at the same time, each resource at its own
// pace; the model's weights are read once. Its time is at least each resource's load over its rate,
// with loads as docs/BOUND.md counts them, or higher ones. A function of its arguments.
//
// Errors: as SimulatedEngine::Create and MakePolicy; DATA_LOSS or INTERNAL for what the engine must
// never do; CANCELLED by `stop`; OUT_OF_RANGE when simulated time runs over.
absl::StatusOr<SimulationResult> SimulatePrefix(const PrefixWorkload& workload,
                                                const ModelSpec& model,
                                                const PrefixSimulationOptions& options);

}  // namespace kvtier::sim
