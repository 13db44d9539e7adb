#include "bench/engine_figures.h"

#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/pointer_chase.h"
#include "sim/sim_copy_engine.h"
#include "sim/sim_pool.h"
#include "tiering/base/check.h"
#include "tiering/base/rng.h"
#include "tiering/base/status_macros.h"
#include "tiering/engine/engine.h"
#include "tiering/plan/lru_policy.h"

namespace kvtier::bench {
namespace {

constexpr Bytes kBlockBytes = KiB(4);
constexpr double kMetadataLimit = 96;
constexpr int kMissesPerOperation = 6;
constexpr uint32_t kMovesPerTick = 50;
constexpr uint32_t kLeasesHeld = 4096;
constexpr uint32_t kPrefixChunks = 4;
constexpr int kRefusalsMax = 1000;
// Enough for the leases to reach the number that the workload keeps.
constexpr uint32_t kWarmUpBatches = 20;
constexpr uint64_t kSmallerBlocks = 1'000'000;  // what the metadata note compares with

enum class Operation : uint8_t { kLease, kRelease, kReserve, kCommit, kTouch };

uint64_t ResidentBytes() {
  // What the allocator keeps for itself is not the engine's.
  ::malloc_trim(0);
  std::ifstream file("/proc/self/statm");
  uint64_t total_pages = 0, resident_pages = 0;
  file >> total_pages >> resident_pages;
  return resident_pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

// Keys are computed, not stored: reading them from memory would cost the misses that are to be
// counted.
wire::ChunkKey KeyOf(uint64_t number) {
  wire::ChunkKey key;
  const uint64_t low = Rng(number).Next();
  const uint64_t high = Rng(number ^ 0x5851f42d4c957f2dull).Next();
  std::memcpy(key.bytes.data(), &low, sizeof(low));
  std::memcpy(key.bytes.data() + sizeof(low), &high, sizeof(high));
  return key;
}

class Workload {
 public:
  static absl::StatusOr<std::unique_ptr<Workload>> Create(const EngineFigureOptions& options) {
    auto load = std::unique_ptr<Workload>(new Workload(options));
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
    engine.tenants.push_back(
        {"bench", "salt", {segment_bytes * segments, segment_bytes * segments}});
    engine.policy = LruPolicy::Create();
    sim::SimCopyEngine::Options copies;
    copies.pools = pools;
    copies.polls_max = 1;  // what one Tick starts, the next one finishes
    engine.copies = std::make_unique<sim::SimCopyEngine>(std::move(copies));
    engine.limits.chunks_max = options.blocks / options.planes * 5 / 4 + 1024;
    engine.limits.moves_in_flight_max = kMovesPerTick;
    engine.limits.session_timeout = absl::Hours(1);
    KVTIER_ASSIGN_OR_RETURN(load->engine_, Engine::Create(std::move(engine)));
    KVTIER_RETURN_IF_ERROR(load->Open());
    return load;
  }

  // Commits chunks until `blocks` are there.
  absl::Status Fill() {
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
      for (uint32_t i = 0; i < args.chunk_count; ++i)
        KVTIER_RETURN_IF_ERROR(Commit(*reservation, i));
      if (created_ >= ticked + kMovesPerTick) {
        ticked = created_;
        Tick();
      }
    }
    // Until the policy's own moves have settled.
    for (uint64_t i = 0; i < chunks / kMovesPerTick && Tick(); ++i) {
    }
    return absl::OkStatus();
  }

  // Nanoseconds an operation of one batch.
  absl::StatusOr<double> RunBatch() {
    Shuffle();
    const uint64_t moved = engine_->counters().moves_done;
    uint64_t operations = mix_.size();
    const auto start = std::chrono::steady_clock::now();
    for (const Operation operation : mix_) KVTIER_RETURN_IF_ERROR(Run(operation));
    Tick();
    Tick();
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
    const uint64_t moves = engine_->counters().moves_done - moved;
    moves_ += moves;
    operations += moves;
    operations_ += operations;
    return time.count() / static_cast<double>(operations);
  }

  const Engine& engine() const { return *engine_; }
  double move_share() const {
    return static_cast<double>(moves_) / static_cast<double>(operations_);
  }
  size_t leases_held() const { return leases_.size(); }
  uint64_t refused() const { return refused_; }
  uint64_t evicted() const { return engine_->counters().dropped_chunks; }

 private:
  explicit Workload(const EngineFigureOptions& options) : options_(options), rng_(options.seed) {
    const auto add = [this](Operation operation, int count) {
      mix_.insert(mix_.end(), static_cast<size_t>(count), operation);
    };
    add(Operation::kLease, 300);
    add(Operation::kRelease, 300);
    add(Operation::kReserve, 100);
    add(Operation::kCommit, 100);
    add(Operation::kTouch, 100);
  }

  absl::Status Open() {
    caller_.tenant = TenantId(0);
    KVTIER_ASSIGN_OR_RETURN(caller_.session, engine_->Attach(caller_.tenant, now_));
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

  bool Tick() {
    now_ += absl::Milliseconds(1);
    return engine_->Tick(now_);
  }

  void Shuffle() {
    for (size_t i = mix_.size(); i > 1; --i) std::swap(mix_[i - 1], mix_[rng_.Below(i)]);
  }

  absl::Status Commit(ReservationId reservation, uint32_t chunk) {
    commit_.chunk = chunk;
    commit_.key = KeyOf(created_++);
    commit_.token_count = 16;
    commit_.checksums = checksums_;
    return engine_->Commit(caller_, reservation, commit_, now_).status();
  }

  absl::Status Run(Operation operation) {
    switch (operation) {
      case Operation::kLease: {
        const wire::ChunkKey key = KeyOf(rng_.Below(created_));
        KVTIER_ASSIGN_OR_RETURN(
            const LookupResult result,
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

  const EngineFigureOptions options_;
  Rng rng_;
  std::unique_ptr<Engine> engine_;
  Caller caller_;
  ModelId model_;
  absl::Time now_ = absl::FromUnixSeconds(1);
  uint64_t created_ = 0;
  uint64_t moves_ = 0;
  uint64_t operations_ = 0;
  uint64_t refused_ = 0;
  std::vector<Operation> mix_;
  std::vector<LeaseId> leases_;
  std::vector<ReservationId> reservations_;
  std::vector<uint64_t> checksums_;
  CommitArgs commit_;
};

// An engine full of blocks that has run its workload for a while, and so holds leases.
struct Loaded {
  std::unique_ptr<Workload> load;
  uint64_t resident_bytes = 0;  // what it made the process grow by
  uint64_t blocks = 0;
  uint64_t metadata_bytes = 0;  // as the engine counts them

  double resident_bytes_per_block() const {
    return static_cast<double>(resident_bytes) / static_cast<double>(blocks);
  }
};

absl::StatusOr<Loaded> LoadEngine(const EngineFigureOptions& options) {
  Loaded loaded;
  const uint64_t resident_before = ResidentBytes();
  KVTIER_ASSIGN_OR_RETURN(loaded.load, Workload::Create(options));
  KVTIER_RETURN_IF_ERROR(loaded.load->Fill());
  for (uint32_t batch = 0; batch < kWarmUpBatches + options.batches / 10; ++batch)
    KVTIER_RETURN_IF_ERROR(loaded.load->RunBatch().status());
  loaded.resident_bytes = ResidentBytes() - resident_before;
  loaded.blocks = loaded.load->engine().Totals(std::nullopt).blocks;
  loaded.metadata_bytes = static_cast<uint64_t>(loaded.load->engine().MetadataBytes().count());
  return loaded;
}

// Resident bytes a block of an engine of its own, in a process of its own: one engine would grow
// into what another has freed, and seem smaller. Only while the process has no other threads.
absl::StatusOr<double> MeasureApart(EngineFigureOptions options) {
  int ends[2];
  if (::pipe(ends) != 0) return absl::InternalError("pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    const absl::StatusOr<Loaded> loaded = LoadEngine(options);
    const double value = loaded.ok() ? loaded->resident_bytes_per_block() : 0;
    const bool written = ::write(ends[1], &value, sizeof(value)) == sizeof(value);
    ::_exit(written ? 0 : 1);
  }
  ::close(ends[1]);
  double value = 0;
  const bool read_all = child > 0 && ::read(ends[0], &value, sizeof(value)) == sizeof(value);
  ::close(ends[0]);
  if (child > 0) ::waitpid(child, nullptr, 0);
  if (!read_all || value <= 0) {
    return absl::InternalError(
        absl::StrCat("an engine of ", options.blocks, " blocks could not be measured"));
  }
  return value;
}

}  // namespace

absl::StatusOr<std::vector<Figure>> EngineFigures(const EngineFigureOptions& options) {
  if (options.planes < 1 || options.planes > 1024 || options.batches < 1 ||
      options.blocks < 10'000 || options.blocks > 100'000'000 ||
      options.blocks % options.planes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.blocks, " blocks of ", options.planes, " planes in ", options.batches,
                     " batches: 10,000 to 100,000,000 blocks, a multiple of 1 to 1024 planes, and "
                     "1 batch or more are needed"));
  }
  std::string smaller;
  if (options.blocks > kSmallerBlocks) {
    EngineFigureOptions fewer = options;
    fewer.blocks = kSmallerBlocks / options.planes * options.planes;
    KVTIER_ASSIGN_OR_RETURN(const double bytes, MeasureApart(fewer));
    smaller = absl::StrFormat("; with %d blocks: %.1f bytes a block", fewer.blocks, bytes);
  }
  KVTIER_ASSIGN_OR_RETURN(const Loaded loaded, LoadEngine(options));
  const std::unique_ptr<Workload>& load = loaded.load;
  const size_t leases_held = load->leases_held();

  PointerChase chase(loaded.metadata_bytes, options.seed);
  std::vector<double> operation_ns, ceiling_ns, ratios;
  for (uint32_t batch = 0; batch < options.batches; ++batch) {
    KVTIER_ASSIGN_OR_RETURN(const double ns, load->RunBatch());
    const double ceiling = kMissesPerOperation * chase.MeasureNs(1000);
    operation_ns.push_back(ns);
    ceiling_ns.push_back(ceiling);
    ratios.push_back(ns / ceiling);
  }
  KVTIER_CHECK(chase.position() != ~uint32_t{0});

  Figure operation;
  operation.name = "engine_operation";
  operation.p50 = Quantile(operation_ns, 0.5);
  operation.p99 = Quantile(operation_ns, 0.99);
  operation.value = operation.p50;
  operation.unit = "ns";
  operation.ceiling = Quantile(ceiling_ns, 0.5);
  operation.ratio = Quantile(ratios, 0.5);
  operation.runs = static_cast<int>(options.batches);
  operation.page_bytes = ::sysconf(_SC_PAGESIZE);
  operation.note = absl::StrFormat(
      "ceiling: %d dependent random loads over as many bytes as the metadata (%d MiB), in turn "
      "with the batches; "
      "%d blocks of %d planes; %.1f %% of the operations were moves; %d chunks were evicted, %d "
      "reservations refused; to "
      "reach: 1000 ns and ratio 1",
      kMissesPerOperation, loaded.metadata_bytes >> 20, loaded.blocks, options.planes,
      100 * load->move_share(), load->evicted(), load->refused());

  Figure metadata;
  metadata.name = "engine_metadata_bytes_per_block";
  metadata.value = loaded.resident_bytes_per_block();
  metadata.p50 = metadata.value;
  metadata.p99 = metadata.value;
  metadata.unit = "bytes";
  metadata.ceiling = kMetadataLimit;
  metadata.ratio = metadata.value / kMetadataLimit;
  metadata.runs = 1;
  metadata.page_bytes = ::sysconf(_SC_PAGESIZE);
  metadata.note = absl::StrFormat(
      "ceiling: the limit asked for; growth of resident memory until %d blocks of %d planes were "
      "stored and the workload held %d leases; the engine itself counts %.1f bytes a block%s",
      loaded.blocks, options.planes, leases_held,
      static_cast<double>(loaded.metadata_bytes) / static_cast<double>(loaded.blocks), smaller);
  return std::vector<Figure>{std::move(operation), std::move(metadata)};
}

}  // namespace kvtier::bench
