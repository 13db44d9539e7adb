// Decodes a sequence step by step with the production engine, as an attention trace says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/attention_instance.h"
#include "sim/attention_trace.h"
#include "sim/machine.h"
#include "sim/model_spec.h"
#include "sim/policy/attention_policies.h"
#include "sim/simulation_faults.h"
#include "sim/simulation_result.h"
#include "tiering/base/stop_check.h"

namespace kvtier::sim {

struct AttentionSimulationOptions {
  Machine machine;
  std::vector<size_t> tiers;  // indices into machine.tiers, of those that hold blocks
  std::string policy;         // policy_factory.h
  LookAhead look_ahead;       // of policy `sa`
  uint64_t seed = 1;
  AttentionPhase phase = AttentionPhase::kStep;
  AttentionMode mode = AttentionMode::kInPlace;
  uint64_t staging_bytes = 0;  // of kStream: MakeStagingBuffers
  uint32_t steps_max = kStepsMax;
  StopCheck stop;    // asked several times in a step; true ends the simulation. May be empty
  SimFaults faults;  // no tier is lost: nothing could compute its blocks again
};

// A block is a chunk in a plane, and all of them are under lease from when they are whole. Before
// the first phase the policy places what the prompt left, in no time. A phase is a step, or a layer
// of one: what it reads comes from where it is, while the new token is computed, and weights and
// what the token adds go through the GPU's own memory; a chunk that becomes whole leaves that
// memory for the tier where the policy places it. All of this goes on at the same time, each
// resource at its own pace. A phase's time is at least each resource's load over its rate, with
// loads as docs/BOUND.md counts them, or higher ones. A function of its arguments.
//
// Streaming, what is read and is not in the GPU's own memory goes through buffers there, whose room
// is kept free of blocks (staged_reads.h).
//
// With strict copies each layer is two phases. In the first, what the layer reads and the GPU's own
// memory did not have at its start is copied to a part of that memory which is kept free for as
// much as any layer reads; in the second the layer works, and reads nothing but that memory. The
// copies are given up after it: which blocks stay is for the policy, as ever.
//
// Errors: as SimulatedEngine::Create and MakePolicy; INVALID_ARGUMENT for a trace of another model,
// and as StrictRoom and MakeStagingBuffers; RESOURCE_EXHAUSTED for too little room beside what is
// kept free, or where the tiers have no room for all blocks; CANCELLED by `stop`; DATA_LOSS or
// INTERNAL for what the engine must never do; OUT_OF_RANGE when simulated time runs over.
absl::StatusOr<SimulationResult> SimulateAttention(const AttentionTrace& trace,
                                                   const ModelSpec& model,
                                                   const AttentionSimulationOptions& options);

}  // namespace kvtier::sim
