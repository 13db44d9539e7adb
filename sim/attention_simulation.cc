#include "sim/attention_simulation.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/policy/access_future.h"
#include "sim/policy/policy_factory.h"
#include "sim/simulated_engine.h"
#include "sim/simulation_faults.h"
#include "sim/staged_reads.h"
#include "tiering/base/rng.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {
namespace {

// Rounds of moves before the first phase.
constexpr int kStartRoundsMax = 1000;
constexpr int64_t kStartRoundNs = 1'000'000'000;
constexpr uint32_t kAddedBetweenQuestions = 64;

uint64_t DivideUp(uint64_t value, uint64_t by) { return (value + by - 1) / by; }

class AttentionSimulation {
 public:
  AttentionSimulation(const AttentionTrace& trace, const ModelSpec& model,
                      const AttentionSimulationOptions& options)
      : trace_(trace),
        geometry_(trace.geometry),
        model_(model),
        options_(options),
        steps_(std::min(geometry_.steps, options.steps_max)),
        parts_(options.phase == AttentionPhase::kLayer ? geometry_.planes : 1),
        strict_(options.mode == AttentionMode::kStrict),
        future_(MakeFuture()),
        rng_(options.seed) {}

  absl::StatusOr<SimulationResult> Run();

 private:
  // Where the engine's lease on a chunk is.
  struct ChunkLease {
    LeaseId lease;
    uint32_t index = 0;
  };
  struct ReadSlot {
    SlotAddress slot;
    uint64_t tag;
  };

  AccessFuture MakeFuture() const;
  absl::Status Create();
  // Takes what copies for reading need out of the GPU's own memory in `machine`.
  absl::Status KeepFree(Machine& machine);
  // Chunks [chunks there, up to `end`), which are whole now; all or none.
  absl::Status Add(uint32_t end, bool counts);
  absl::Status Start();
  absl::Status RunPhase(uint32_t step, uint32_t first_plane, uint32_t end_plane);
  // Resolves what the plane reads, checks it, and adds to `bytes` by tier.
  absl::Status ReadPlane(uint32_t step, uint32_t plane, std::vector<uint64_t>& bytes);
  absl::Status Report(uint32_t step, uint32_t first_plane, uint32_t end_plane);
  absl::Status Stage(std::vector<uint64_t>& bytes);
  // The phase that comes next.
  bool InLastHalf() const {
    return result_.phase_ns.size() + 1 > uint64_t{steps_} * parts_ * (strict_ ? 2 : 1) / 2;
  }
  absl::Status CheckSection() const;
  absl::Status Asked() const {
    return options_.stop && options_.stop() ? absl::CancelledError("the simulation was ended")
                                            : absl::OkStatus();
  }

  const AttentionTrace& trace_;
  const AttentionGeometry& geometry_;
  const ModelSpec& model_;
  const AttentionSimulationOptions& options_;
  const uint32_t steps_;
  const uint32_t parts_;  // of a step that run one after another
  const bool strict_;     // each of them two phases
  AccessFuture future_;
  Rng rng_;
  std::unique_ptr<SimulatedEngine> sim_;
  SimulationResult result_;
  uint64_t block_bytes_ = 0;
  StagingBuffers buffers_;      // streaming
  uint32_t prompt_chunks_ = 0;  // under one lease
  std::vector<ChunkLease> leases_;
  std::vector<ReadTarget> targets_;
  std::vector<ReadSlot> read_slots_;
  std::vector<std::vector<uint8_t>> mass_;  // by plane of a report, of the prompt's chunks
};

AccessFuture AttentionSimulation::MakeFuture() const {
  const uint64_t chunks = geometry_.BlocksAt(steps_);
  const uint64_t planes = geometry_.planes;
  std::vector<uint64_t> first(chunks * planes + 1);
  const auto each = [&](auto visit) {
    for (uint32_t step = 0; step < steps_; ++step) {
      for (uint32_t plane = 0; plane < planes; ++plane) {
        const uint32_t phase = parts_ == 1 ? step : step * parts_ + plane;
        for (const uint32_t block : trace_.BlocksOf(step, plane))
          visit(block * planes + plane, phase);
      }
    }
  };
  each([&](uint64_t number, uint32_t) { ++first[number + 1]; });
  for (size_t i = 1; i < first.size(); ++i) first[i] += first[i - 1];
  std::vector<uint64_t> at(first.begin(), first.end() - 1);
  std::vector<uint32_t> phases(first.back());
  each([&](uint64_t number, uint32_t phase) { phases[at[number]++] = phase; });
  return AccessFuture(std::move(first), std::move(phases));
}

absl::Status AttentionSimulation::Create() {
  if (geometry_.model != model_.name || geometry_.planes != model_.layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("the trace is of model ", geometry_.model, " with ", geometry_.planes,
                     " planes; the simulation is of ", model_.name, " with ", model_.layers));
  }
  if (uint64_t{steps_} * parts_ >= kNever)
    return absl::InvalidArgumentError(absl::StrCat(steps_, " steps of ", parts_, " phases each"));
  block_bytes_ = geometry_.block_tokens * model_.KvBytesPerTokenAndPlane();
  future_.set_phases_per_step(parts_);
  future_.set_reads([this](uint32_t phase, std::vector<uint64_t>& blocks) {
    const uint32_t step = phase / parts_;
    if (step >= steps_) return;
    for (uint32_t plane = 0; plane < geometry_.planes; ++plane) {
      if (parts_ > 1 && plane != phase % parts_) continue;
      for (const uint32_t block : trace_.BlocksOf(step, plane))
        blocks.push_back(uint64_t{block} * geometry_.planes + plane);
    }
  });
  SimulatedEngineOptions engine;
  engine.machine = options_.machine;
  engine.tiers = options_.tiers;
  engine.weight_bytes = model_.weight_bytes;
  KVTIER_RETURN_IF_ERROR(KeepFree(engine.machine));
  engine.plane_bytes = block_bytes_;
  engine.plane_count = geometry_.planes;
  engine.chunk_tokens = geometry_.block_tokens;
  engine.chunk_count = geometry_.BlocksAt(steps_);
  engine.seed = options_.seed;
  engine.reorder = options_.faults.reorder;
  KVTIER_ASSIGN_OR_RETURN(engine.policy,
                          MakePolicy(options_.policy, &future_, options_.look_ahead));
  KVTIER_ASSIGN_OR_RETURN(sim_, SimulatedEngine::Create(std::move(engine)));
  StartFaults(options_.faults, *sim_);
  StartResult(options_.policy, options_.tiers.size(), geometry_.planes, result_);
  return absl::OkStatus();
}

absl::Status AttentionSimulation::KeepFree(Machine& machine) {
  if (options_.mode == AttentionMode::kInPlace) return absl::OkStatus();
  uint64_t& own = machine.tiers[0].capacity_bytes;
  const bool holds_blocks = options_.tiers[0] == 0;
  const uint64_t own_room = own - std::min(own, model_.weight_bytes);
  uint64_t kept = 0;
  if (strict_) {
    KVTIER_ASSIGN_OR_RETURN(
        kept, StrictRoom(trace_, model_, options_.phase, steps_,
                         holds_blocks ? std::optional<uint64_t>(own_room) : std::nullopt));
  } else {
    const uint64_t others = options_.tiers.size() - (holds_blocks ? 1 : 0);
    KVTIER_ASSIGN_OR_RETURN(
        buffers_, MakeStagingBuffers(options_.staging_bytes, others, block_bytes_, own_room));
    kept = buffers_.all_bytes;
  }
  own -= kept;
  if (!holds_blocks || kept == 0 || own_room - kept >= block_bytes_) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "the GPU's own memory has ", own_room, " bytes beside the weights, of which ", kept,
      " are kept free for copies that are read: that leaves no room for a block of ",
      block_bytes_));
}

absl::Status AttentionSimulation::Add(uint32_t end, bool counts) {
  Engine& engine = sim_->engine();
  const auto first = static_cast<uint32_t>(leases_.size());
  std::vector<wire::ChunkKey> keys;
  for (uint32_t chunk = first; chunk < end; ++chunk) {
    if (chunk % kAddedBetweenQuestions == 0) KVTIER_RETURN_IF_ERROR(Asked());
    ReserveArgs reserve;
    reserve.model = sim_->model();
    if (chunk > 0) reserve.parent = SimChunkKey(chunk - 1);
    const auto reservation = engine.Reserve(sim_->caller(), reserve, sim_->now());
    if (!reservation.ok()) {
      return absl::Status(reservation.status().code(),
                          absl::StrCat("block ", chunk, " of ", geometry_.BlocksAt(steps_),
                                       " has no room: ", reservation.status().message()));
    }
    CommitArgs commit;
    commit.key = SimChunkKey(chunk);
    commit.token_count = geometry_.block_tokens;
    for (uint32_t plane = 0; plane < geometry_.planes; ++plane) {
      KVTIER_ASSIGN_OR_RETURN(
          const WriteTarget target,
          engine.Target(sim_->caller(), *reservation, 0, PlaneIndex(static_cast<uint16_t>(plane))));
      const size_t tier = target.slot.pool.value();
      commit.checksums.push_back(ContentTag(chunk, plane));
      sim_->pool(tier).SetTag(target.slot.segment, target.slot.offset, commit.checksums.back());
      if (!counts) continue;
      // Its tokens were written to the GPU's own memory one by one.
      result_.tiers[tier].stored_bytes += block_bytes_;
      if (sim_->machine().kind(tier) == TierKind::kHbm && !sim_->machine().inclusive()) continue;
      OperationCost cost = sim_->machine().Store(tier, block_bytes_);
      cost.Add(sim_->machine().OwnMemory(block_bytes_));
      sim_->Do(cost);
    }
    KVTIER_RETURN_IF_ERROR(
        engine.Commit(sim_->caller(), *reservation, commit, sim_->now()).status());
    keys.push_back(commit.key);
  }
  if (keys.empty()) return absl::OkStatus();
  KVTIER_ASSIGN_OR_RETURN(
      const LookupResult found,
      engine.Lookup(sim_->caller(), sim_->model(), keys, absl::ZeroDuration(), sim_->now()));
  if (found.matched != keys.size())
    return absl::InternalError(
        absl::StrCat("of chunks from ", first, " to ", end, " only ", found.matched, " are there"));
  for (uint32_t i = 0; i < keys.size(); ++i) leases_.push_back({found.lease, i});
  return absl::OkStatus();
}

absl::Status AttentionSimulation::Start() {
  prompt_chunks_ = geometry_.BlocksAt(0);
  KVTIER_RETURN_IF_ERROR(Add(prompt_chunks_, false));
  mass_.assign(geometry_.planes, std::vector<uint8_t>(prompt_chunks_));
  for (int round = 0; round < kStartRoundsMax; ++round) {
    KVTIER_RETURN_IF_ERROR(Asked());
    const uint64_t moves = sim_->engine().counters().moves_done;
    KVTIER_RETURN_IF_ERROR(sim_->Pass(kStartRoundNs, kTicksPerPhase));
    if (sim_->engine().counters().moves_done == moves) break;
  }
  sim_->machine().ports().ForgetServed();
  return absl::OkStatus();
}

absl::StatusOr<SimulationResult> AttentionSimulation::Run() {
  KVTIER_RETURN_IF_ERROR(Create());
  KVTIER_RETURN_IF_ERROR(Start());
  uint64_t next_check = 1;
  const uint32_t phases = steps_ * parts_;
  for (uint32_t phase = 0; phase < phases; ++phase) {
    const uint32_t step = phase / parts_;
    const uint32_t plane = phase % parts_;
    future_.set_now(phase);
    SimFaults faults = options_.faults;
    faults.lose_pool_one_in = 0;
    DrawFaults(faults, rng_, *sim_);
    absl::Status status =
        parts_ == 1 ? RunPhase(step, 0, geometry_.planes) : RunPhase(step, plane, plane + 1);
    if (status.ok() && (phase + 1 == next_check || phase + 1 == phases)) {
      next_check *= 2;
      status = sim_->CheckAll();
    }
    if (!status.ok()) {
      return absl::Status(status.code(), absl::StrCat("policy ", options_.policy, ", step ", step,
                                                      ": ", status.message()));
    }
  }
  FinishResult(*sim_, result_);
  return std::move(result_);
}

absl::Status AttentionSimulation::RunPhase(uint32_t step, uint32_t first_plane,
                                           uint32_t end_plane) {
  const uint64_t hits_before = result_.hits;
  if (first_plane == 0) KVTIER_RETURN_IF_ERROR(Add(geometry_.BlocksAt(step), true));
  const SectionId section = sim_->engine().EnterSection();
  read_slots_.clear();
  std::vector<uint64_t> bytes(options_.tiers.size());
  uint64_t reads = 0;
  for (uint32_t plane = first_plane; plane < end_plane; ++plane) {
    KVTIER_RETURN_IF_ERROR(Asked());
    reads += trace_.BlocksOf(step, plane).size();
    KVTIER_RETURN_IF_ERROR(ReadPlane(step, plane, bytes));
  }
  if (strict_) KVTIER_RETURN_IF_ERROR(Stage(bytes));
  const SimTime work_start = sim_->time();
  const uint64_t pair_flops =
      geometry_.block_tokens * DivideUp(model_.AttentionFlopsPerPair(), model_.layers);
  const SimTime computed = sim_->Do(
      sim_->machine().Compute(reads * pair_flops + DivideUp(model_.FlopsPerToken(), parts_)));
  const uint64_t own_bytes =
      DivideUp(model_.pass_weight_bytes, parts_) + DivideUp(model_.KvBytesPerToken(), parts_);
  if (options_.mode == AttentionMode::kStream) {
    ReadStaged(*sim_, buffers_, bytes, own_bytes);
  } else {
    for (size_t tier = 0; tier < bytes.size(); ++tier) {
      if (bytes[tier] > 0) sim_->Do(sim_->machine().Read(tier, bytes[tier]));
    }
    sim_->Do(sim_->machine().OwnMemory(own_bytes));
  }
  KVTIER_RETURN_IF_ERROR(Report(step, first_plane, end_plane));
  KVTIER_RETURN_IF_ERROR(sim_->EndWork(options_.tiers.size() > 1 ? kTicksPerPhase : 0));
  KVTIER_RETURN_IF_ERROR(CheckSection());
  sim_->engine().ExitSection(section);
  sim_->Settle();
  AddPhase(sim_->time() - work_start, sim_->time() - computed, reads, result_.hits - hits_before,
           InLastHalf(), result_);
  return absl::OkStatus();
}

// The phase before a layer's work: `bytes`, by tier, come to the GPU's own memory, and are there
// after it.
absl::Status AttentionSimulation::Stage(std::vector<uint64_t>& bytes) {
  const SimTime start = sim_->time();
  for (size_t tier = 1; tier < bytes.size(); ++tier) {
    if (bytes[tier] == 0) continue;
    OperationCost cost = sim_->machine().Read(tier, bytes[tier]);
    cost.Add(sim_->machine().OwnMemory(bytes[tier]));
    sim_->Do(cost);
    bytes[0] += std::exchange(bytes[tier], 0);
  }
  KVTIER_RETURN_IF_ERROR(sim_->EndWork(options_.tiers.size() > 1 ? kTicksPerPhase : 0));
  AddPhase(sim_->time() - start, sim_->time() - start, 0, 0, InLastHalf(), result_);
  return absl::OkStatus();
}

absl::Status AttentionSimulation::ReadPlane(uint32_t step, uint32_t plane,
                                            std::vector<uint64_t>& bytes) {
  const PlaneIndex index(static_cast<uint16_t>(plane));
  SimulationResult::Plane& of_plane = result_.planes[plane];
  for (const uint32_t block : trace_.BlocksOf(step, plane)) {
    const ChunkLease& lease = leases_[block];
    targets_.clear();
    KVTIER_RETURN_IF_ERROR(sim_->engine().Resolve(sim_->caller(), lease.lease, lease.index,
                                                  absl::MakeConstSpan(&index, 1), targets_));
    KVTIER_RETURN_IF_ERROR(sim_->CheckContent(targets_[0], block));
    const SlotAddress& slot = targets_[0].copies[0].slot;
    const size_t tier = slot.pool.value();
    read_slots_.push_back({slot, targets_[0].checksum});
    bytes[tier] += block_bytes_;
    ++result_.tiers[tier].read_blocks;
    result_.tiers[tier].read_bytes += block_bytes_;
    ++of_plane.read_blocks[tier];
    of_plane.read_bytes[tier] += block_bytes_;
    result_.hits += tier == 0 ? 1 : 0;
  }
  return absl::OkStatus();
}

absl::Status AttentionSimulation::CheckSection() const {
  for (const ReadSlot& read : read_slots_) {
    if (sim_->pool(read.slot.pool.value()).Tag(read.slot.segment, read.slot.offset) == read.tag)
      continue;
    return absl::InternalError(absl::StrCat("pool ", read.slot.pool.value(), ", segment ",
                                            read.slot.segment.value(),
                                            ": a slot was written while a section was open"));
  }
  return absl::OkStatus();
}

absl::Status AttentionSimulation::Report(uint32_t step, uint32_t first_plane, uint32_t end_plane) {
  std::vector<PlaneReads> prompt;
  for (uint32_t plane = first_plane; plane < end_plane; ++plane) {
    const absl::Span<const uint32_t> blocks = trace_.BlocksOf(step, plane);
    const absl::Span<const uint8_t> mass = trace_.MassOf(step, plane);
    std::vector<uint8_t>& of_prompt = mass_[plane];
    std::fill(of_prompt.begin(), of_prompt.end(), 0);
    const PlaneIndex index(static_cast<uint16_t>(plane));
    for (size_t i = 0; i < blocks.size(); ++i) {
      const uint8_t log_mass = static_cast<uint8_t>(std::max(1, 255 - mass[i]));
      if (blocks[i] < prompt_chunks_) {
        of_prompt[blocks[i]] = log_mass;
        continue;
      }
      const ChunkLease& lease = leases_[blocks[i]];
      if (lease.index != 0) return absl::InternalError("more than one chunk came in a step");
      PlaneReads one{.plane = index, .steps = 1, .log_mass = absl::MakeConstSpan(&log_mass, 1)};
      KVTIER_RETURN_IF_ERROR(sim_->engine().Report(sim_->caller(), lease.lease,
                                                   absl::MakeConstSpan(&one, 1), sim_->now()));
    }
    prompt.push_back({.plane = index, .steps = 1, .log_mass = of_prompt});
  }
  if (prompt_chunks_ == 0) return absl::OkStatus();
  return sim_->engine().Report(sim_->caller(), leases_[0].lease, prompt, sim_->now());
}

}  // namespace

absl::StatusOr<SimulationResult> SimulateAttention(const AttentionTrace& trace,
                                                   const ModelSpec& model,
                                                   const AttentionSimulationOptions& options) {
  return AttentionSimulation(trace, model, options).Run();
}

}  // namespace kvtier::sim
