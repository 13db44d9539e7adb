#include "sim/simulated_engine.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {
namespace {

// Ticks after a phase: each evicts some hundred chunks at most.
constexpr int kSettleTicksMax = 1024;
// Open for copies while the engine settles: for as long as they take.
constexpr SimTime kSettleNs = kSimTimeMax / 2;
// Of a tier larger than all blocks together, so many slots more than they need: the engine keeps
// some free.
constexpr uint64_t kSpareSlots = 4096;

uint64_t Mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
  return value ^ (value >> 31);
}

constexpr uint64_t kSegments = 2048;
static_assert(kSegments <= CopyRef::kSegmentsMax);
constexpr uint64_t kSlotsMax = kSegments * CopyRef::kSlotsMax;

struct PoolShape {
  uint64_t segment_bytes = 0;
  uint64_t segments = 0;
};

// Small segments, so that of those that the engine keeps free little room is lost; but no more of
// them than needed for that, as each costs time.
absl::StatusOr<PoolShape> ShapeOf(const std::string& name, uint64_t capacity, uint64_t slot_bytes,
                                  uint64_t slots_needed, uint64_t segment_bytes) {
  if (segment_bytes > 0) {
    const PoolShape shape{segment_bytes, capacity / segment_bytes};
    if (segment_bytes % 4096 != 0 || segment_bytes < slot_bytes || shape.segments == 0 ||
        shape.segments > CopyRef::kSegmentsMax || segment_bytes / slot_bytes > CopyRef::kSlotsMax) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "tier %s: segments of %d bytes in %d bytes; multiples of 4096 of at least a block's %d "
          "and at most %d blocks, and 1 to %d of them are possible",
          name, segment_bytes, capacity, slot_bytes, CopyRef::kSlotsMax, CopyRef::kSegmentsMax));
    }
    return shape;
  }
  const uint64_t slots = std::min(capacity / slot_bytes, slots_needed);
  if (slots == 0) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "tier %s has %d bytes for blocks; one block takes %d", name, capacity, slot_bytes));
  }
  // Segments are multiples of 4 KiB: so many slots at least.
  const uint64_t unit = 4096 / std::gcd<uint64_t>(4096, slot_bytes);
  uint64_t each = (slots + kSegments - 1) / kSegments;
  each = (each + unit - 1) / unit * unit;
  if (each > CopyRef::kSlotsMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tier %s has room for %d blocks of %d bytes; %d at most are possible", name,
                        slots, slot_bytes, kSlotsMax));
  }
  if (slots < each) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "tier %s has %d bytes for blocks; blocks of %d bytes come in pieces of memory of %d bytes",
        name, capacity, slot_bytes, each * slot_bytes));
  }
  return PoolShape{each * slot_bytes, slots / each};
}

// For blocks, by tier. The engine keeps one copy of a block. Where the last tier is to have one of
// every block, those that the engine has in others take room there, too: so the engine gets what is
// left of it, and others no more than a half of it.
std::vector<uint64_t> Capacities(const SimulatedEngineOptions& options, bool inclusive) {
  std::vector<uint64_t> capacities;
  for (const size_t index : options.tiers) {
    capacities.push_back(options.machine.tiers[index].capacity_bytes -
                         (index == 0 ? options.weight_bytes : 0));
  }
  uint64_t& last = capacities.back();
  for (size_t i = 0; inclusive && i + 1 < capacities.size(); ++i) {
    capacities[i] = std::min(capacities[i], last / 2);
    last -= capacities[i];
  }
  return capacities;
}

EngineLimits LimitsFor(uint64_t chunks, uint32_t planes) {
  EngineLimits limits;
  limits.chunks_max = std::max<uint64_t>(chunks + 16, 1024);
  limits.blocks_max = std::clamp<uint64_t>(chunks * planes + (uint64_t{planes} << 14), 1 << 20,
                                           BlockCatalog::kBlocksMax);
  limits.planes_max = std::max<uint32_t>(planes, 1);
  limits.leases_max = 1 << 22;
  limits.leased_chunks_max = 64 << 20;
  limits.chunks_per_call_max = 1 << 21;
  limits.reserved_bytes_max = Bytes(int64_t{1} << 60);
  // Simulated time runs as slow as the machine is.
  limits.session_timeout = absl::Hours(24 * 365 * 100);
  limits.lease_ttl = limits.lease_ttl_max = limits.incomplete_chunk_ttl = limits.session_timeout;
  limits.section_max = limits.session_timeout;
  limits.retired_share_max = 1;  // sections are as long as phases
  limits.events_kept = 1;
  return limits;
}

}  // namespace

uint64_t ContentTag(uint64_t chunk, uint32_t plane) {
  return Mix(chunk * 0x9e3779b97f4a7c15ull + plane + 1) | 1;
}

wire::ChunkKey SimChunkKey(uint64_t chunk) {
  wire::ChunkKey key;
  const uint64_t low = Mix(chunk + 0x9e3779b97f4a7c15ull) | 1;  // never the zero key
  for (size_t i = 0; i < 8; ++i) {
    key.bytes[i] = static_cast<uint8_t>(low >> (8 * i));
    key.bytes[8 + i] = static_cast<uint8_t>(chunk >> (8 * i));
  }
  return key;
}

absl::StatusOr<std::unique_ptr<SimulatedEngine>> SimulatedEngine::Create(
    SimulatedEngineOptions options) {
  KVTIER_RETURN_IF_ERROR(CheckMachine(options.machine));
  const MachineTier& own = options.machine.tiers[0];
  const bool holds_blocks = !options.tiers.empty() && options.tiers.front() == 0;
  if (options.weight_bytes > own.capacity_bytes ||
      (holds_blocks && options.weight_bytes == own.capacity_bytes)) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s: the model's weights of %d bytes do not fit tier %s of %d bytes",
                        options.machine.name, options.weight_bytes, own.name, own.capacity_bytes));
  }
  if (options.plane_bytes == 0 || options.plane_bytes > uint64_t{1} << 40) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a block of %d bytes; 1 to 2^40 are possible", options.plane_bytes));
  }
  auto sim = std::unique_ptr<SimulatedEngine>(new SimulatedEngine());
  KVTIER_ASSIGN_OR_RETURN(SimMachine machine, SimMachine::Create(options.machine, options.tiers));
  sim->machine_ = std::make_unique<SimMachine>(std::move(machine));

  // As the engine rounds it (SlotAllocator::SlotBytes).
  const uint64_t unit = options.plane_bytes >= (64 << 10) ? 4096 : 64;
  const uint64_t slot_bytes = (options.plane_bytes + unit - 1) / unit * unit;
  sim->slot_bytes_ = Bytes(static_cast<int64_t>(slot_bytes));
  const uint64_t blocks = options.chunk_count * options.plane_count;
  if (options.chunk_count >= BlockCatalog::kBlocksMax || blocks >= BlockCatalog::kBlocksMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d chunks in %d planes each; %d blocks are possible", options.chunk_count,
                        options.plane_count, BlockCatalog::kBlocksMax));
  }
  const uint64_t slots_needed = blocks + blocks / 4 + kSpareSlots;

  EngineOptions engine;
  TenantOptions tenant{.name = "sim", .salt = "", .quota = {}};
  SimCopyEngine::Options copies;
  const std::vector<uint64_t> capacities = Capacities(options, sim->machine_->inclusive());
  for (size_t i = 0; i < options.tiers.size(); ++i) {
    const MachineTier& tier = options.machine.tiers[options.tiers[i]];
    const uint64_t capacity = capacities[i];
    KVTIER_ASSIGN_OR_RETURN(const PoolShape shape, ShapeOf(tier.name, capacity, slot_bytes,
                                                           slots_needed, options.segment_bytes));
    auto pool = std::make_unique<SimPool>(
        SimPool::Options{.name = tier.name,
                         .kind = tier.kind == TierKind::kDram ? PoolKind::kDram : PoolKind::kHbm,
                         .segment_bytes = Bytes(static_cast<int64_t>(shape.segment_bytes)),
                         .segments_max = static_cast<uint32_t>(shape.segments),
                         .tag_bytes = sim->slot_bytes_});
    const Bytes budget = pool->segment_bytes() * pool->segments_max();
    sim->slots_.push_back(shape.segments * (shape.segment_bytes / slot_bytes));
    sim->pools_.push_back(pool.get());
    copies.pools.push_back(pool.get());
    copies.tagged.push_back(pool.get());
    tenant.quota.push_back(budget);
    engine.pools.push_back({.pool = std::move(pool), .budget = budget});
  }
  engine.tenants.push_back(std::move(tenant));
  auto watch = std::make_unique<WatchedPolicy>(std::move(options.policy));
  sim->watch_ = watch.get();
  engine.policy = std::move(watch);
  engine.limits = LimitsFor(options.chunk_count, options.plane_count);
  engine.limits.moves_in_flight_max = options.moves_in_flight_max;
  engine.index_seed = options.seed;
  copies.seed = options.seed;
  copies.in_flight_max = engine.limits.moves_in_flight_max;
  copies.clock = &sim->clock_;
  copies.machine = sim->machine_.get();
  copies.reorder = options.reorder;
  auto copy_engine = std::make_unique<SimCopyEngine>(std::move(copies));
  sim->copies_ = copy_engine.get();
  engine.copies = std::move(copy_engine);
  KVTIER_ASSIGN_OR_RETURN(sim->engine_, Engine::Create(std::move(engine)));

  KVTIER_ASSIGN_OR_RETURN(const SessionId session, sim->engine_->Attach(TenantId(0), sim->now()));
  sim->caller_ = Caller{TenantId(0), session};
  ::kvtier::ModelSpec spec;
  spec.name = "simulated";
  spec.chunk_tokens = options.chunk_tokens;
  for (uint32_t i = 0; i < options.plane_count; ++i) {
    spec.planes.push_back({.name = absl::StrCat("plane", i),
                           .layer = i,
                           .bytes_per_chunk = Bytes(static_cast<int64_t>(options.plane_bytes))});
  }
  KVTIER_ASSIGN_OR_RETURN(const RegisteredModel model,
                          sim->engine_->RegisterModel(sim->caller_, spec));
  sim->model_ = model.id;
  return sim;
}

SimTime SimulatedEngine::DoFrom(SimTime start, const OperationCost& cost) {
  const SimTime end = machine_->ports().Occupy(cost.loads, start, cost.latency_ns);
  work_ends_ = std::max(work_ends_, end);
  return end;
}

absl::Status SimulatedEngine::EndWork(int ticks) {
  const SimTime start = time();
  const SimTime work = std::max(work_ends_, start);
  copies_->Open(start, work);
  for (int i = 0; i <= ticks; ++i) {
    AdvanceTo(start + (work - start) / std::max(ticks, 1) * i);
    if (i == ticks) AdvanceTo(work);
    engine_->Tick(now());
  }
  const SimTime end = std::max(work, copies_->started_until());
  copies_->Open(end, end);
  AdvanceTo(end);
  engine_->Tick(now());
  return EndPhase();
}

void SimulatedEngine::AdvanceTo(SimTime to) {
  if (to > time()) clock_.Advance(absl::Nanoseconds(to - time()));
}

absl::Status SimulatedEngine::EndPhase() {
  work_ends_ = time();
  if (!machine_->ports().overflowed() && time() < kSimTimeMax) return absl::OkStatus();
  return absl::OutOfRangeError(
      "simulated time passes 73 years: the machine's rates are too low for this trace");
}

absl::Status SimulatedEngine::EndWorkSettled() {
  AdvanceTo(work_ends_);
  for (int round = 0; round < kSettleTicksMax; ++round) {
    copies_->Open(time(), time() + kSettleNs);
    if (!engine_->SettleRound(now())) break;
    AdvanceTo(copies_->started_until());
  }
  copies_->Open(time(), time());
  return EndPhase();
}

absl::Status SimulatedEngine::Pass(SimTime duration, int ticks) {
  work_ends_ = time() + duration;
  return EndWork(ticks);
}

void SimulatedEngine::Settle() {
  uint64_t dropped = engine_->counters().dropped_chunks;
  for (int i = 0; i < kSettleTicksMax; ++i) {
    engine_->Tick(now());
    const uint64_t now_dropped = engine_->counters().dropped_chunks;
    if (now_dropped == dropped) return;
    dropped = now_dropped;
  }
}

absl::Status SimulatedEngine::CheckContent(const ReadTarget& target, uint64_t chunk) const {
  const uint64_t wanted = ContentTag(chunk, target.plane.value());
  if (target.copy_count == 0) {
    return absl::DataLossError(absl::StrFormat("chunk %d, plane %d: lost, though it was looked up",
                                               chunk, target.plane.value()));
  }
  const SlotAddress& slot = target.copies[0].slot;
  const uint64_t found = pools_[slot.pool.value()]->Tag(slot.segment, slot.offset);
  if (found == wanted && target.checksum == wanted) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat(
      "chunk %d, plane %d: tag %016x in pool %d, segment %d, offset %d; %016x was written", chunk,
      target.plane.value(), found, slot.pool.value(), slot.segment.value(), slot.offset.count(),
      wanted));
}

absl::Status SimulatedEngine::CheckAll(uint32_t lost_pools) const {
  engine_->CheckInvariants();
  const BlockCatalog& blocks = table();
  std::vector<std::vector<bool>> taken;
  std::vector<uint64_t> in_pool(pools_.size());
  for (const SimPool* pool : pools_) {
    taken.emplace_back(pool->segments_max() *
                       static_cast<size_t>(pool->segment_bytes() / slot_bytes_));
  }
  for (RowIndex row = 0; row < blocks.row_end(); ++row) {
    if (!blocks.live(row)) continue;
    const uint64_t chunk = blocks.key(row).high();
    for (size_t i = 0; i < blocks.plane_count(model_); ++i) {
      const Block& block = blocks.block(row, PlaneIndex(static_cast<uint16_t>(i)));
      for (const CopyRef copy : {block.best, block.second}) {
        if (!copy.valid()) continue;
        const size_t pool = copy.pool().value();
        const auto each = static_cast<size_t>(pools_[pool]->segment_bytes() / slot_bytes_);
        std::vector<bool>::reference slot =
            taken[pool][copy.segment().value() * each + copy.slot()];
        if (slot) {
          return absl::InternalError(
              absl::StrFormat("chunk %d, plane %d: its slot has two blocks", chunk, i));
        }
        slot = true;
        ++in_pool[pool];
        const uint64_t tag =
            pools_[pool]->Tag(copy.segment(), slot_bytes_ * static_cast<int64_t>(copy.slot()));
        const uint64_t wanted = ContentTag(chunk, static_cast<uint32_t>(i));
        if (block.checksum == wanted && (tag == wanted || (lost_pools >> pool & 1) != 0)) continue;
        return absl::InternalError(
            absl::StrFormat("chunk %d, plane %d: tag %016x in pool %d; %016x was written", chunk, i,
                            tag, pool, wanted));
      }
    }
  }
  for (size_t pool = 0; pool < pools_.size(); ++pool) {
    if (in_pool[pool] <= slots_[pool]) continue;
    return absl::InternalError(absl::StrFormat("pool %s has %d blocks in %d slots",
                                               machine_->name(pool), in_pool[pool], slots_[pool]));
  }
  return absl::OkStatus();
}

}  // namespace kvtier::sim
