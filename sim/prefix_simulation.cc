#include "sim/prefix_simulation.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/policy/access_future.h"
#include "sim/policy/policy_factory.h"
#include "sim/replay_order.h"
#include "sim/simulated_engine.h"
#include "sim/simulation_faults.h"
#include "tiering/base/rng.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {
namespace {

constexpr uint32_t kChunksPerReserve = 16;

AccessFuture FutureOf(const PrefixWorkload& workload) {
  std::vector<uint64_t> first(workload.chunks.size() + 1);
  for (const uint32_t chunk : workload.request_chunks) ++first[chunk + 1];
  std::partial_sum(first.begin(), first.end(), first.begin());
  std::vector<uint32_t> phases(workload.request_chunks.size());
  std::vector<uint64_t> at(first.begin(), first.end() - 1);
  for (uint32_t phase = 0; phase < workload.requests.size(); ++phase) {
    for (const uint32_t chunk : workload.ChunksOf(workload.requests[phase]))
      phases[at[chunk]++] = phase;
  }
  return AccessFuture(std::move(first), std::move(phases));
}

bool Refuses(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status);
}

class PrefixSimulation {
 public:
  PrefixSimulation(const PrefixWorkload& workload, const ModelSpec& model,
                   const PrefixSimulationOptions& options)
      : workload_(workload),
        model_(model),
        options_(options),
        chunk_bytes_(workload.chunk_tokens * workload.bytes_per_token),
        lookup_chunks_(options.settle ? kReplayLookupChunks : kNoChunk),
        reserve_chunks_(options.settle ? ReplayBatchChunks(chunk_bytes_) : kChunksPerReserve),
        future_(FutureOf(workload)),
        rng_(options.seed) {
    future_.set_reads([this](uint32_t phase, std::vector<uint64_t>& blocks) {
      if (phase >= workload_.requests.size()) return;
      for (const uint32_t chunk : workload_.ChunksOf(workload_.requests[phase]))
        blocks.push_back(chunk);
    });
  }

  absl::StatusOr<SimulationResult> Run();

 private:
  absl::Status Create();
  absl::Status Serve(const PrefixRequest& request);
  // How many chunks were there and had their contents. Of what was found, leases_ has leases.
  absl::StatusOr<uint32_t> Read(absl::Span<const uint32_t> chunks);
  // The same of those from `first` on that one lookup names, and how many it found.
  struct Found {
    uint32_t read = 0;
    uint32_t matched = 0;
  };
  absl::StatusOr<Found> ReadSome(absl::Span<const uint32_t> chunks, uint32_t first);
  absl::Status Report(LeaseId lease, uint32_t chunks);
  absl::Status Store(absl::Span<const uint32_t> chunks, uint32_t first);
  // How many of them, from the first on; fewer than all: there is no room for the prompt.
  absl::StatusOr<uint32_t> StoreSome(absl::Span<const uint32_t> chunks, uint32_t first);

  const PrefixWorkload& workload_;
  const ModelSpec& model_;
  const PrefixSimulationOptions& options_;
  const uint64_t chunk_bytes_;
  const uint32_t lookup_chunks_;   // at most, in one call
  const uint32_t reserve_chunks_;  // likewise
  AccessFuture future_;
  Rng rng_;
  std::unique_ptr<SimulatedEngine> sim_;
  SimulationResult result_;
  uint32_t lost_pools_ = 0;  // bit by tier: its contents may be gone
  std::vector<wire::ChunkKey> keys_;
  std::vector<LeaseId> leases_;
  std::vector<ReadTarget> targets_;
};

absl::Status PrefixSimulation::Create() {
  SimulatedEngineOptions engine;
  engine.machine = options_.machine;
  engine.tiers = options_.tiers;
  engine.weight_bytes = model_.weight_bytes;
  engine.plane_bytes = chunk_bytes_;
  engine.chunk_tokens = workload_.chunk_tokens;
  engine.chunk_count = workload_.chunks.size();
  engine.seed = options_.seed;
  engine.segment_bytes = options_.segment_bytes;
  if (options_.settle) engine.moves_in_flight_max = EngineLimits().moves_in_flight_max;
  engine.reorder = options_.faults.reorder;
  KVTIER_ASSIGN_OR_RETURN(engine.policy,
                          MakePolicy(options_.policy, &future_, options_.look_ahead));
  KVTIER_ASSIGN_OR_RETURN(sim_, SimulatedEngine::Create(std::move(engine)));
  StartFaults(options_.faults, *sim_);
  StartResult(options_.policy, options_.tiers.size(), 1, result_);
  return absl::OkStatus();
}

absl::StatusOr<SimulationResult> PrefixSimulation::Run() {
  KVTIER_RETURN_IF_ERROR(Create());
  uint64_t next_check = 1;
  for (uint32_t phase = 0; phase < workload_.requests.size(); ++phase) {
    if (options_.stop && options_.stop()) return absl::CancelledError("the simulation was ended");
    future_.set_now(phase);
    lost_pools_ |= DrawFaults(options_.faults, rng_, *sim_);
    absl::Status status = Serve(workload_.requests[phase]);
    // Looks at everything after the first, second, fourth... phase.
    if (status.ok() && (phase + 1 == next_check || phase + 1 == workload_.requests.size())) {
      next_check *= 2;
      status = sim_->CheckAll(lost_pools_);
    }
    if (!status.ok()) {
      return absl::Status(status.code(), absl::StrCat("policy ", options_.policy, ", request ",
                                                      phase, ": ", status.message()));
    }
  }
  FinishResult(*sim_, result_);
  return std::move(result_);
}

absl::Status PrefixSimulation::Serve(const PrefixRequest& request) {
  const absl::Span<const uint32_t> chunks = workload_.ChunksOf(request);
  const SimTime start = sim_->time();
  KVTIER_ASSIGN_OR_RETURN(const uint32_t hits, Read(chunks));

  uint64_t flops = request.extra_flops;
  for (const uint32_t chunk : chunks.subspan(hits))
    flops += workload_.chunks[chunk].recompute_flops;
  const SimTime computed = sim_->Do(sim_->machine().Compute(flops));
  if (!chunks.empty() || request.extra_flops > 0)
    sim_->Do(sim_->machine().OwnMemory(model_.pass_weight_bytes));
  KVTIER_RETURN_IF_ERROR(Store(chunks, hits));
  if (!options_.settle)
    KVTIER_RETURN_IF_ERROR(sim_->EndWork(options_.tiers.size() > 1 ? kTicksPerPhase : 0));
  for (const LeaseId lease : leases_)
    KVTIER_RETURN_IF_ERROR(sim_->engine().Release(sim_->caller(), lease));
  if (options_.settle) {
    KVTIER_RETURN_IF_ERROR(sim_->EndWorkSettled());
  } else {
    sim_->Settle();
  }

  result_.hits += hits;
  AddPhase(sim_->time() - start, sim_->time() - computed, chunks.size(), hits,
           result_.phase_ns.size() + 1 > workload_.requests.size() / 2, result_);
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> PrefixSimulation::Read(absl::Span<const uint32_t> chunks) {
  keys_.clear();
  leases_.clear();
  for (const uint32_t chunk : chunks) keys_.push_back(SimChunkKey(chunk));
  uint32_t read = 0;
  while (read < chunks.size()) {
    const auto asked = std::min<size_t>(chunks.size() - read, lookup_chunks_);
    KVTIER_ASSIGN_OR_RETURN(const Found found, ReadSome(chunks.subspan(0, read + asked), read));
    read += found.read;
    if (options_.settle && found.read > 0)
      KVTIER_RETURN_IF_ERROR(Report(leases_.back(), found.matched));
    if (found.read < asked) break;
  }
  return read;
}

absl::StatusOr<PrefixSimulation::Found> PrefixSimulation::ReadSome(
    absl::Span<const uint32_t> chunks, uint32_t first) {
  Engine& engine = sim_->engine();
  KVTIER_ASSIGN_OR_RETURN(
      const LookupResult found,
      engine.Lookup(sim_->caller(), sim_->model(),
                    absl::MakeConstSpan(keys_).subspan(first, chunks.size() - first),
                    absl::ZeroDuration(), sim_->now()));
  if (found.lease != LeaseId()) leases_.push_back(found.lease);
  const SectionId section = engine.EnterSection();
  std::vector<uint64_t> bytes(options_.tiers.size());
  const PlaneIndex plane(0);
  uint32_t hits = 0;
  for (; hits < found.matched; ++hits) {
    const uint32_t chunk = chunks[first + hits];
    targets_.clear();
    KVTIER_RETURN_IF_ERROR(engine.Resolve(sim_->caller(), found.lease, hits,
                                          absl::MakeConstSpan(&plane, 1), targets_));
    const ReadTarget& target = targets_[0];
    const absl::Status content = sim_->CheckContent(target, chunk);
    if (!content.ok()) {
      const bool lost =
          target.copy_count > 0 && (lost_pools_ >> target.copies[0].slot.pool.value() & 1) != 0;
      if (!lost) return content;
      engine.ReportCorrupt(target, 0);
      ++result_.lost_blocks;
      break;
    }
    const size_t tier = target.copies[0].slot.pool.value();
    bytes[tier] += workload_.chunks[chunk].bytes;
    ++result_.tiers[tier].read_blocks;
    ++result_.planes[0].read_blocks[tier];
  }
  // What is dropped for new chunks has to be free at once. The lease keeps what was read.
  engine.ExitSection(section);
  for (size_t tier = 0; tier < bytes.size(); ++tier) {
    result_.tiers[tier].read_bytes += bytes[tier];
    result_.planes[0].read_bytes[tier] += bytes[tier];
    if (bytes[tier] > 0) sim_->Do(sim_->machine().Read(tier, bytes[tier]));
  }
  return Found{hits, found.matched};
}

absl::Status PrefixSimulation::Report(LeaseId lease, uint32_t chunks) {
  const std::vector<uint8_t> mass(chunks, 200);
  PlaneReads reads{.plane = PlaneIndex(0), .steps = 1, .log_mass = mass};
  return sim_->engine().Report(sim_->caller(), lease, {&reads, 1}, sim_->now());
}

absl::Status PrefixSimulation::Store(absl::Span<const uint32_t> chunks, uint32_t first) {
  while (first < chunks.size()) {
    const absl::Span<const uint32_t> some = chunks.subspan(first, reserve_chunks_);
    KVTIER_ASSIGN_OR_RETURN(const uint32_t stored, StoreSome(some, first));
    first += stored;
    if (stored < some.size()) {
      result_.refused_chunks += chunks.size() - first;
      break;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> PrefixSimulation::StoreSome(absl::Span<const uint32_t> chunks,
                                                     uint32_t first) {
  Engine& engine = sim_->engine();
  ReserveArgs reserve;
  reserve.model = sim_->model();
  reserve.chunk_count = static_cast<uint32_t>(chunks.size());
  if (first > 0) reserve.parent = keys_[first - 1];
  const auto reservation = engine.Reserve(sim_->caller(), reserve, sim_->now());
  if (Refuses(reservation.status())) return 0;
  KVTIER_RETURN_IF_ERROR(reservation.status());
  std::vector<uint64_t> bytes(options_.tiers.size());
  CommitArgs commit;
  uint32_t stored = 0;
  for (; stored < chunks.size(); ++stored) {
    const uint32_t chunk = chunks[stored];
    const uint64_t tag = ContentTag(chunk, 0);
    KVTIER_ASSIGN_OR_RETURN(const WriteTarget target,
                            engine.Target(sim_->caller(), *reservation, stored, PlaneIndex(0)));
    const size_t tier = target.slot.pool.value();
    sim_->pool(tier).SetTag(target.slot.segment, target.slot.offset, tag);
    commit.chunk = stored;
    commit.key = keys_[first + stored];
    commit.token_count = workload_.chunks[chunk].tokens;
    commit.checksums.assign(1, tag);
    const auto outcome = engine.Commit(sim_->caller(), *reservation, commit, sim_->now());
    if (Refuses(outcome.status())) {
      // What was committed stays.
      KVTIER_RETURN_IF_ERROR(engine.Abort(sim_->caller(), *reservation));
      break;
    }
    KVTIER_RETURN_IF_ERROR(outcome.status());
    bytes[tier] += workload_.chunks[chunk].bytes;
  }
  for (size_t tier = 0; tier < bytes.size(); ++tier) {
    result_.tiers[tier].stored_bytes += bytes[tier];
    if (bytes[tier] > 0) sim_->Do(sim_->machine().Store(tier, bytes[tier]));
  }
  return stored;
}

}  // namespace

absl::StatusOr<SimulationResult> SimulatePrefix(const PrefixWorkload& workload,
                                                const ModelSpec& model,
                                                const PrefixSimulationOptions& options) {
  return PrefixSimulation(workload, model, options).Run();
}

}  // namespace kvtier::sim
