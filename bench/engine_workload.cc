#include "bench/engine_workload.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/samples.h"
#include "sim/sim_copy_engine.h"
#include "sim/sim_pool.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/plan/lru_policy.h"

namespace kvtier::bench {
namespace {

constexpr Bytes kBlockBytes = KiB(4);
constexpr uint32_t kMovesPerTick = 50;
constexpr uint32_t kLeasesHeld = 4096;
constexpr int kRefusalsMax = 1000;
constexpr uint32_t kSettleTicksMax = 10'000;
constexpr uint8_t kLogMass = 200;  // of a report; how much does not matter to the policy

}  // namespace

EngineWorkload::EngineWorkload(const EngineWorkloadOptions& options)
    : options_(options), rng_(options.seed) {
  const auto add = [this](Operation operation, size_t count) {
    mix_.insert(mix_.end(), count, operation);
  };
  add(Operation::kLease, 300);
  add(Operation::kRelease, 300);
  add(Operation::kReserve, 100);
  add(Operation::kCommit, 100);
  add(Operation::kTouch, 100);
}

absl::StatusOr<std::unique_ptr<EngineWorkload>> EngineWorkload::Create(
    const EngineWorkloadOptions& options) {
  auto load = std::unique_ptr<EngineWorkload>(new EngineWorkload(options));
  // Two pools of a little more than half of the blocks each: some room stays free by the engine's
  // own rules.
  const auto pool_blocks = static_cast<int64_t>(static_cast<double>(options.blocks) * 0.553);
  EngineOptions engine;
  std::vector<MemoryPool*> pools;
  Bytes segment_bytes = MiB(64);
  // Small runs need small segments, or one segment would be all there is.
  while (segment_bytes > KiB(64) &&
         pool_blocks * kBlockBytes.count() < 16 * segment_bytes.count()) {
    segment_bytes = Bytes(segment_bytes.count() / 2);
  }
  const auto segments =
      static_cast<uint32_t>(kBlockBytes.count() * pool_blocks / segment_bytes.count() + 1);
  for (const char* name : {"hbm:0", "dram:0"}) {
    sim::SimPool::Options pool;
    pool.name = name;
    pool.kind = pools.empty() ? PoolKind::kHbm : PoolKind::kDram;
    pool.segment_bytes = segment_bytes;
    pool.segments_max = segments;
    auto made = std::make_unique<sim::SimPool>(pool);
    pools.push_back(made.get());
    engine.pools.push_back({std::move(made), segment_bytes * segments});
  }
  engine.tenants.push_back({"bench", "salt", {segment_bytes * segments, segment_bytes * segments}});
  engine.policy = LruPolicy::Create();
  sim::SimCopyEngine::Options copies;
  copies.pools = pools;
  copies.polls_max = 1;  // what one Tick starts, the next one finishes
  engine.copies = std::make_unique<sim::SimCopyEngine>(std::move(copies));
  engine.limits.chunks_max = options.blocks / options.planes * 5 / 4 + 1024;
  engine.limits.moves_in_flight_max = kMovesPerTick;
  engine.limits.session_timeout = absl::Hours(1);
  if (options.shared) {
    engine.limits.blocks_max = engine.limits.chunks_max * options.planes;
    const auto bytes = static_cast<uint64_t>(Engine::IndexBytes(engine.limits, 1).count());
    KVTIER_ASSIGN_OR_RETURN(PageMemory index, PageMemory::Create(bytes, 0, PageKind::kSmall));
    load->index_ = std::make_unique<PageMemory>(std::move(index));
    engine.share.index.push_back(load->index_->bytes());
    load->page_ = std::make_unique<wire::ClientPage>();
  }
  KVTIER_ASSIGN_OR_RETURN(load->engine_, Engine::Create(std::move(engine)));
  KVTIER_RETURN_IF_ERROR(load->Open());
  return load;
}

absl::Status EngineWorkload::Fill() {
  const uint64_t chunks = options_.blocks / options_.planes;
  uint64_t ticked = 0;
  int refusals = 0;
  // At least so many, and on until the pools are full: from then on writing evicts.
  const uint64_t chunks_max = chunks + chunks / 10;
  while (created_ < chunks || (evicted() == 0 && created_ < chunks_max)) {
    ReserveArgs args;
    args.model = model_;
    args.chunk_count =
        static_cast<uint32_t>(std::min<uint64_t>(kPrefixChunks, chunks_max - created_));
    const absl::StatusOr<ReservationId> reservation = engine_->Reserve(caller_, args, now_);
    if (absl::IsResourceExhausted(reservation.status()) && ++refusals < kRefusalsMax) {
      Tick();
      continue;
    }
    KVTIER_RETURN_IF_ERROR(reservation.status());
    refusals = 0;
    for (uint32_t i = 0; i < args.chunk_count; ++i) KVTIER_RETURN_IF_ERROR(Commit(*reservation, i));
    if (created_ >= ticked + kMovesPerTick) {
      ticked = created_;
      Tick();
    }
  }
  filled_ = created_ / kPrefixChunks * kPrefixChunks;
  // Until the policy's own moves have settled.
  for (uint64_t i = 0; i < chunks / kMovesPerTick && Tick(); ++i) {
  }
  return absl::OkStatus();
}

absl::StatusOr<double> EngineWorkload::RunBatch() {
  Shuffle();
  const uint64_t moved = engine_->counters().moves_done;
  uint64_t operations = mix_.size();
  const auto start = Clock::now();
  for (const Operation operation : mix_) KVTIER_RETURN_IF_ERROR(Run(operation));
  Tick();
  Tick();
  const double ns = NsSince(start, 1);
  const uint64_t moves = engine_->counters().moves_done - moved;
  moves_ += moves;
  operations += moves;
  operations_ += operations;
  return ns / static_cast<double>(operations);
}

absl::Status EngineWorkload::Open() {
  caller_.tenant = TenantId(0);
  KVTIER_ASSIGN_OR_RETURN(caller_.session, engine_->Attach(caller_.tenant, now_));
  if (page_ != nullptr)
    KVTIER_RETURN_IF_ERROR(engine_->AttachShared(caller_, page_.get()).status());
  ModelSpec spec;
  spec.name = "bench";
  spec.chunk_tokens = 16;
  for (uint32_t plane = 0; plane < options_.planes; ++plane) {
    PlaneSpec plane_spec;
    plane_spec.name = absl::StrCat("layer.", plane);
    plane_spec.layer = plane;
    plane_spec.bytes_per_chunk = kBlockBytes;
    spec.planes.push_back(std::move(plane_spec));
  }
  KVTIER_ASSIGN_OR_RETURN(const RegisteredModel model, engine_->RegisterModel(caller_, spec));
  model_ = model.id;
  checksums_.assign(options_.planes, 1);
  return absl::OkStatus();
}

bool EngineWorkload::Tick() {
  now_ += absl::Milliseconds(1);
  return engine_->Tick(now_);
}

void EngineWorkload::Shuffle() {
  for (size_t i = mix_.size(); i > 1; --i) std::swap(mix_[i - 1], mix_[rng_.Below(i)]);
}

absl::Status EngineWorkload::Commit(ReservationId reservation, uint32_t chunk) {
  commit_.chunk = chunk;
  commit_.key = KeyOf(created_++);
  commit_.token_count = 16;
  commit_.checksums = checksums_;
  return engine_->Commit(caller_, reservation, commit_, now_).status();
}

absl::Status EngineWorkload::Run(Operation operation) {
  switch (operation) {
    case Operation::kLease: {
      const wire::ChunkKey key = KeyOf(rng_.Below(created_));
      KVTIER_ASSIGN_OR_RETURN(const LookupResult result,
                              engine_->Lookup(caller_, model_, {&key, 1}, absl::Minutes(5), now_));
      if (result.lease.value() != 0) leases_.push_back(result.lease);
      return absl::OkStatus();
    }
    case Operation::kRelease: {
      // A pool of leases is held all the time, so that releases do not always find what is in the
      // cache.
      if (leases_.size() <= kLeasesHeld / 2) return Run(Operation::kLease);
      std::swap(leases_[rng_.Below(leases_.size())], leases_.back());
      const LeaseId lease = leases_.back();
      leases_.pop_back();
      return engine_->Release(caller_, lease);
    }
    case Operation::kReserve: {
      ReserveArgs args;
      args.model = model_;
      const absl::StatusOr<ReservationId> reservation = engine_->Reserve(caller_, args, now_);
      if (reservation.ok()) reservations_.push_back(*reservation);
      // A refusal is an answer that a worker lives with; it cost a search for room.
      if (!absl::IsResourceExhausted(reservation.status())) return reservation.status();
      ++refused_;
      return absl::OkStatus();
    }
    case Operation::kCommit: {
      if (reservations_.empty()) KVTIER_RETURN_IF_ERROR(Run(Operation::kReserve));
      if (reservations_.empty()) return absl::OkStatus();
      const ReservationId reservation = reservations_.back();
      reservations_.pop_back();
      return Commit(reservation, 0);
    }
    case Operation::kTouch: {
      const wire::ChunkKey key = KeyOf(rng_.Below(created_));
      return engine_->Lookup(caller_, model_, {&key, 1}, std::nullopt, now_).status();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint64_t>> EngineWorkload::RandomPrefix() {
  std::array<wire::ChunkKey, kPrefixChunks> keys;
  const uint64_t first = rng_.Below(filled_ / kPrefixChunks) * kPrefixChunks;
  for (uint32_t i = 0; i < kPrefixChunks; ++i) keys[i] = KeyOf(first + i);
  KVTIER_ASSIGN_OR_RETURN(const LookupResult found,
                          engine_->Lookup(caller_, model_, keys, absl::Minutes(5), now_));
  std::vector<uint64_t> rows;
  if (found.lease == LeaseId()) return rows;
  KVTIER_RETURN_IF_ERROR(engine_->LeaseRows(caller_, found.lease, rows));
  KVTIER_RETURN_IF_ERROR(engine_->Release(caller_, found.lease));
  return rows;
}

absl::Status EngineWorkload::PrepareReports(Reports kind, uint32_t ticks) {
  reports_.clear();
  while (reports_.size() < uint64_t{ticks} * kReportsPerTick) {
    KVTIER_ASSIGN_OR_RETURN(std::vector<uint64_t> rows, RandomPrefix());
    uint32_t planes = options_.planes;
    auto first = uint16_t{0};
    if (kind == Reports::kBlocks && !rows.empty()) {
      rows = {rows[rng_.Below(rows.size())]};
      first = static_cast<uint16_t>(rng_.Below(planes));
      planes = 1;
    }
    for (uint32_t plane = 0; plane < planes; ++plane) {
      for (const uint64_t row : rows) {
        reports_.push_back({.row = row,
                            .steps = 1,
                            .plane = static_cast<uint16_t>(first + plane),
                            .log_mass = kLogMass});
      }
    }
  }
  // What the lookups led to is not the reports'.
  for (uint32_t tick = 0; tick < kSettleTicksMax && Tick(); ++tick) {
  }
  return absl::OkStatus();
}

absl::StatusOr<double> EngineWorkload::RunReports() {
  KVTIER_CHECK(page_ != nullptr && reports_.size() >= kReportsPerTick);
  wire::ReportProducer ring(page_.get());
  for (uint32_t i = 0; i < kReportsPerTick; ++i) {
    if (!ring.Write(reports_.back())) return absl::InternalError("a report found the ring full");
    reports_.pop_back();
  }
  const uint64_t taken = engine_->counters().shared_reports;
  const auto start = Clock::now();
  Tick();
  const double ns = NsSince(start, kReportsPerTick);
  if (engine_->counters().shared_reports - taken != kReportsPerTick)
    return absl::InternalError("not every report was taken");
  return ns;
}

}  // namespace kvtier::bench
