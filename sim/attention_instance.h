// An attention trace on a machine as a placement problem.
//
// A phase is a step, or a layer of one. Its base load is a pass's weights through the GPU's own
// memory, and the operations for the token and its attention to what it reads. What is behind the
// last whole block is not counted, nor that the new token's keys and values are written.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/attention_trace.h"
#include "sim/machine.h"
#include "sim/machine_parts.h"
#include "sim/schedule_terms.h"
#include "tiering/bound/instance.h"

namespace kvtier::sim {

enum class AttentionPhase : uint8_t { kStep, kLayer };

enum class AttentionMode : uint8_t {
  kInPlace,
  // What is elsewhere is copied to the GPU's own memory and read there, within the phase.
  kStream,
  // Blocks are copied into the GPU's own memory before their layer starts: each layer is two
  // phases, a stall in which only copies run, and then its work.
  kStrict,
};

struct AttentionInstanceOptions {
  std::vector<std::string> tier_names{};  // that hold cache; empty: all of the machine's
  AttentionPhase phase = AttentionPhase::kStep;
  AttentionMode mode = AttentionMode::kInPlace;
  uint32_t steps_max = kStepsMax;  // the first of the trace
  uint64_t staging_bytes = 0;      // of streaming: MakeStagingBuffers
};

struct AttentionInstance {
  bound::Instance instance;
  ScheduleTerms schedules;
  MachineParts parts;
  // By block of the instance: which of the trace's it is. Those that are never read are left out.
  std::vector<uint32_t> block_plane;
  std::vector<uint32_t> block_index;
  uint32_t steps = 0;
};

// A block lives from the step at whose start it is whole, in any state, to its last read, and has a
// copy all the while: its states are the sets of tiers but the empty one, or on an inclusive
// machine those with the last tier. In place the GPU reads each copy by its own path while it
// works; else it reads its own memory alone, to which a copy from elsewhere comes first. A copy
// that comes and goes within a phase takes no room. INVALID_ARGUMENT: as MakeMachineParts; a trace
// of another model; strict without layers as phases or without the GPU's own memory; a phase that
// reads more than that has (strict); blocks that the tiers have no room for; or sums that the
// bound's arithmetic does not carry.
absl::StatusOr<AttentionInstance> MakeAttentionInstance(const AttentionTrace& trace,
                                                        const Machine& machine,
                                                        const ModelSpec& model,
                                                        const AttentionInstanceOptions& options);

// Bytes of the most that a phase of the first `steps` reads, which the GPU's own memory must have
// room for where blocks are copied before they are read. `own_room` is that room beside the
// weights; none: no cache is held there. INVALID_ARGUMENT: phases are not layers, there is no such
// room, or too little, with the step and plane.
absl::StatusOr<uint64_t> StrictRoom(const AttentionTrace& trace, const ModelSpec& model,
                                    AttentionPhase phase, uint32_t steps,
                                    std::optional<uint64_t> own_room);

// Prices of that many phases, and loads, are kept in memory.
inline constexpr uint64_t kAttentionPhasesMax = 4'000'000;

}  // namespace kvtier::sim
