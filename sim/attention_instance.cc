#include "sim/attention_instance.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/staging_buffers.h"
#include "tiering/base/status_macros.h"
#include "tiering/bound/standard_tables.h"

namespace kvtier::sim {
namespace {

class AttentionInstanceBuilder {
 public:
  AttentionInstanceBuilder(const AttentionTrace& trace, const ModelSpec& model,
                           const AttentionInstanceOptions& options, AttentionInstance& result)
      : trace_(trace),
        geometry_(trace.geometry),
        model_(model),
        options_(options),
        result_(result),
        instance_(result.instance) {}

  absl::Status Build() {
    result_.steps = std::min(geometry_.steps, options_.steps_max);
    const uint64_t phases = uint64_t{result_.steps} * PhasesPerStep();
    if (phases > kAttentionPhasesMax)
      return absl::InvalidArgumentError(absl::StrCat("the trace has ", phases,
                                                     " phases; the limit is ", kAttentionPhasesMax,
                                                     " (--requests takes fewer steps)"));
    instance_.phase_count = static_cast<uint32_t>(phases);
    AddBaseLoads();
    AddBlocks();
    KVTIER_RETURN_IF_ERROR(CheckRoom());
    if (strict()) KVTIER_RETURN_IF_ERROR(CheckStrict());
    return bound::Check(instance_);
  }

 private:
  bool strict() const { return options_.mode == AttentionMode::kStrict; }
  bool layers() const { return options_.phase == AttentionPhase::kLayer; }
  uint32_t PhasesPerStep() const { return (layers() ? geometry_.planes : 1) * (strict() ? 2 : 1); }
  // In which a plane's blocks are read.
  uint32_t PhaseOf(uint32_t step, uint32_t plane) const {
    const uint32_t phase = layers() ? step * geometry_.planes + plane : step;
    return strict() ? 2 * phase + 1 : phase;
  }
  uint64_t& Base(uint32_t phase, uint8_t resource) {
    return instance_.base_load[phase * instance_.resources.size() + resource];
  }
  uint64_t BlockBytes() const { return geometry_.block_tokens * model_.KvBytesPerTokenAndPlane(); }

  void AddBaseLoads() {
    instance_.base_load.resize(instance_.phase_count * instance_.resources.size());
    const uint64_t parts = layers() ? geometry_.planes : 1;
    // A new token's keys and values are left out: any memory may be what they are written to.
    const uint64_t bytes = model_.pass_weight_bytes / parts;
    const uint64_t flops_per_read =
        geometry_.block_tokens * (model_.AttentionFlopsPerPair() / model_.layers);
    for (uint32_t step = 0; step < result_.steps; ++step) {
      for (uint32_t plane = 0; plane < geometry_.planes; ++plane) {
        const uint32_t phase = PhaseOf(step, plane);
        Base(phase, result_.parts.compute) += trace_.BlocksOf(step, plane).size() * flops_per_read;
        if (plane > 0 && !layers()) continue;
        Base(phase, result_.parts.hbm) += bytes;
        Base(phase, result_.parts.compute) += model_.FlopsPerToken() / parts;
      }
    }
  }

  void AddBlocks() {
    const uint32_t per_plane = geometry_.BlocksAt(result_.steps);
    instance_.classes.push_back({.bytes = BlockBytes(),
                                 .recompute_units = 0,
                                 .table = 0,
                                 .start_states = static_cast<bound::StateSet>(
                                     (1u << instance_.tables[0].state_count()) - 1)});
    instance_.access_phase.reserve(trace_.first[trace_.IndexOf(result_.steps, 0)]);
    instance_.first_access.push_back(0);
    std::vector<uint64_t> next(per_plane);  // of the plane: where its blocks' next accesses go
    for (uint32_t plane = 0; plane < geometry_.planes; ++plane) {
      std::fill(next.begin(), next.end(), 0);
      for (uint32_t step = 0; step < result_.steps; ++step) {
        for (const uint32_t block : trace_.BlocksOf(step, plane)) ++next[block];
      }
      uint64_t at = instance_.access_phase.size();
      const size_t first_block = instance_.block_class.size();
      for (uint32_t block = 0; block < per_plane; ++block) {
        const uint64_t count = std::exchange(next[block], at);
        if (count == 0) continue;
        at += count;
        result_.block_plane.push_back(plane);
        result_.block_index.push_back(block);
        instance_.block_class.push_back(0);
        instance_.birth.push_back(geometry_.BirthOf(block) * PhasesPerStep());
        instance_.first_access.push_back(at);
      }
      instance_.access_phase.resize(at);
      for (uint32_t step = 0; step < result_.steps; ++step) {
        for (const uint32_t block : trace_.BlocksOf(step, plane))
          instance_.access_phase[next[block]++] = PhaseOf(step, plane);
      }
      for (size_t block = first_block; block < instance_.block_class.size(); ++block)
        instance_.death.push_back(instance_.access_phase[instance_.first_access[block + 1] - 1] +
                                  1);
    }
  }

  // Blocks are never dropped, so that too little room would be no schedule at all.
  absl::Status CheckRoom() const {
    uint64_t room = 0;
    for (const bound::Tier& tier : instance_.tiers) room += tier.capacity_bytes;
    if (result_.parts.inclusive) room = instance_.tiers.back().capacity_bytes;
    std::vector<int64_t> change(size_t{instance_.phase_count} + 1);
    for (size_t block = 0; block < instance_.block_count(); ++block) {
      ++change[instance_.birth[block]];
      --change[instance_.death[block]];
    }
    int64_t blocks = 0;
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      blocks += change[phase];
      if (static_cast<uint64_t>(blocks) * BlockBytes() <= room) continue;
      return absl::FailedPreconditionError(absl::StrCat(
          "step ", phase / PhasesPerStep(), " has blocks of ",
          static_cast<uint64_t>(blocks) * BlockBytes(), " bytes, and ",
          result_.parts.inclusive ? "the tier that holds a copy of all has " : "the tiers have ",
          room));
    }
    return absl::OkStatus();
  }

  absl::Status CheckStrict() const {
    std::optional<uint64_t> own_room;
    if (result_.parts.ports.front().on_gpu) own_room = instance_.tiers.front().capacity_bytes;
    return StrictRoom(trace_, model_, options_.phase, result_.steps, own_room).status();
  }

  const AttentionTrace& trace_;
  const AttentionGeometry& geometry_;
  const ModelSpec& model_;
  const AttentionInstanceOptions& options_;
  AttentionInstance& result_;
  bound::Instance& instance_;
};

absl::Status CheckIsOf(const AttentionGeometry& geometry, const ModelSpec& model) {
  if (geometry.model == model.name && geometry.planes == model.layers) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the trace is of model \"", geometry.model, "\" with ", geometry.planes,
                   " layers, and the model is \"", model.name, "\" with ", model.layers));
}

// Bytes that schedules keep free in the first tier, as simulations do.
absl::StatusOr<uint64_t> StagingRoom(const AttentionGeometry& geometry, const Machine& machine,
                                     const ModelSpec& model, const MachineParts& parts,
                                     const AttentionInstanceOptions& options) {
  const bool own_chosen = parts.ports.front().on_gpu;
  KVTIER_ASSIGN_OR_RETURN(
      const StagingBuffers buffers,
      MakeStagingBuffers(options.staging_bytes, parts.tiers.size() - (own_chosen ? 1 : 0),
                         geometry.block_tokens * model.KvBytesPerTokenAndPlane(),
                         machine.tiers.front().capacity_bytes - model.weight_bytes));
  return own_chosen ? buffers.all_bytes : 0;
}

}  // namespace

absl::StatusOr<uint64_t> StrictRoom(const AttentionTrace& trace, const ModelSpec& model,
                                    AttentionPhase phase, uint32_t steps,
                                    std::optional<uint64_t> own_room) {
  if (phase != AttentionPhase::kLayer)
    return absl::InvalidArgumentError("strict needs layers as phases: --phase layer");
  if (!own_room)
    return absl::InvalidArgumentError("strict needs the GPU's own memory among the tiers");
  const AttentionGeometry& geometry = trace.geometry;
  const uint64_t block_bytes = geometry.block_tokens * model.KvBytesPerTokenAndPlane();
  uint64_t most = 0;
  for (uint32_t step = 0; step < steps; ++step) {
    for (uint32_t plane = 0; plane < geometry.planes; ++plane) {
      const uint64_t needed = trace.BlocksOf(step, plane).size() * block_bytes;
      most = std::max(most, needed);
      if (needed <= *own_room) continue;
      return absl::FailedPreconditionError(
          absl::StrCat("step ", step, " reads ", needed, " bytes of plane ", plane,
                       ", and the GPU's own memory has ", *own_room,
                       " beside the weights; stream does without"));
    }
  }
  return most;
}

absl::StatusOr<AttentionInstance> MakeAttentionInstance(const AttentionTrace& trace,
                                                        const Machine& machine,
                                                        const ModelSpec& model,
                                                        const AttentionInstanceOptions& options) {
  KVTIER_RETURN_IF_ERROR(CheckIsOf(trace.geometry, model));
  AttentionInstance result;
  KVTIER_ASSIGN_OR_RETURN(result.parts, MakeMachineParts(machine, model, options.tier_names));
  bound::Instance& instance = result.instance;
  instance.tiers = result.parts.tiers;
  instance.resources = result.parts.resources;
  instance.compute_resource = result.parts.compute;
  bound::TableSpec spec{.tiers = result.parts.ports,
                        .states = StatesOf(result.parts, false),
                        .accesses_max = 1,
                        .recompute = false,
                        .strict = options.mode == AttentionMode::kStrict};
  if (options.mode != AttentionMode::kInPlace) {
    for (bound::TierPorts& ports : spec.tiers) ports.serves_reads = ports.on_gpu;
    // Blocks pass through it while a phase lasts, also where none may stay.
    if (!spec.tiers.front().on_gpu)
      spec.tiers.push_back({.memory = result.parts.hbm, .on_gpu = true});
  }
  KVTIER_RETURN_IF_ERROR(AddTable(std::move(spec), instance, result.schedules));
  if (options.mode == AttentionMode::kStream) {
    KVTIER_ASSIGN_OR_RETURN(result.schedules.kept_bytes,
                            StagingRoom(trace.geometry, machine, model, result.parts, options));
  }
  KVTIER_RETURN_IF_ERROR(AttentionInstanceBuilder(trace, model, options, result).Build());
  return result;
}

}  // namespace kvtier::sim
