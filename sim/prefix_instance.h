// A trace of prompts on a machine as a placement problem.
//
// A phase is one request's prefill; they are served one after another, and the figure is the total
// time of service. In it, each chunk of the prompt is read from a copy, or computed. Every prefill
// reads weights once from the GPU's own memory and computes what no chunk has; both are base load.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/machine.h"
#include "sim/machine_parts.h"
#include "sim/prefix_workload.h"
#include "sim/schedule_terms.h"
#include "tiering/bound/instance.h"

namespace kvtier::sim {

struct PrefixInstance {
  bound::Instance instance;
  ScheduleTerms schedules;
  MachineParts parts;
  // By block of the instance: which chunk it is. Chunks that only one request has are not blocks:
  // nothing can be decided about them, and that they are computed once is base load.
  std::vector<uint32_t> block_chunk;
  // That all requests take where nothing is kept: each computes its whole prompt.
  double uncached_s = 0;
};

// A block is a chunk, all planes together, from the first request that has it, which computes it,
// to the last one. Its states are the sets of `tier_names` that hold a copy, the empty one
// included; on an inclusive machine, those that have the last tier if they have any. A chunk is
// taken for itself, although an engine can only use one whose ancestors are there, so the bound
// allows more than engines can do. INVALID_ARGUMENT: as MakeMachineParts, or sums that the bound's
// arithmetic does not carry.
absl::StatusOr<PrefixInstance> MakePrefixInstance(const PrefixWorkload& workload,
                                                  const Machine& machine, const ModelSpec& model,
                                                  const std::vector<std::string>& tier_names);

}  // namespace kvtier::sim
