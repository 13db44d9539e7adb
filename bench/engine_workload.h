// An engine that is full of blocks, and what is asked of it in a benchmark.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/page_memory.h"
#include "proto/wire/chunk_key.h"
#include "proto/wire/client_page.h"
#include "proto/wire/report_ring.h"
#include "tiering/base/rng.h"
#include "tiering/engine/engine.h"

namespace kvtier::bench {

struct EngineWorkloadOptions {
  uint64_t blocks = 0;  // a multiple of `planes`
  uint32_t planes = 1;  // of a chunk
  bool shared = false;  // with a client on shared memory, and so with the tenant's index there
  uint64_t seed = 1;
};

// Blocks of 4 KiB without bytes in two pools that are about full, under the LRU policy; prefixes of
// kPrefixChunks chunks. Keys are computed, not stored: reading them from memory would cost the
// misses that are to be counted. Not thread-safe.
class EngineWorkload {
 public:
  static constexpr uint32_t kPrefixChunks = 4;

  static absl::StatusOr<std::unique_ptr<EngineWorkload>> Create(
      const EngineWorkloadOptions& options);

  // Commits chunks until `blocks` are there, and lets the policy's own moves settle.
  absl::Status Fill();

  // Nanoseconds an operation of one batch, in random order: 300 lookups of a random chunk with a
  // lease, 300 releases, 100 reservations of a chunk and 100 commits of it, 100 lookups without a
  // lease; then two Ticks, which finish and start 50 of the policy's moves each. Each call and each
  // finished move is an operation.
  absl::StatusOr<double> RunBatch();

  // Whose blocks a client on shared memory reports as read.
  enum class Reports : uint8_t {
    kPrefixes,  // random prefixes: in each, plane by plane, all chunks
    kBlocks,    // random blocks, none with another
  };
  // Draws what so many RunReports report, and lets the moves that this leads to settle. Only of a
  // shared engine.
  static constexpr uint32_t kReportsPerTick = 4096;
  absl::Status PrepareReports(Reports kind, uint32_t ticks);
  // Nanoseconds that a Tick takes for each of kReportsPerTick reports that wait in a client's ring;
  // it finishes and starts the moves that those before led to, 50 each at most.
  absl::StatusOr<double> RunReports();

  const Engine& engine() const { return *engine_; }
  // Of the operations, so far.
  double move_share() const {
    return static_cast<double>(moves_) / static_cast<double>(operations_);
  }
  size_t leases_held() const { return leases_.size(); }
  uint64_t refused() const { return refused_; }
  uint64_t evicted() const { return engine_->counters().dropped_chunks; }

 private:
  enum class Operation : uint8_t { kLease, kRelease, kReserve, kCommit, kTouch };

  explicit EngineWorkload(const EngineWorkloadOptions& options);
  absl::Status Open();
  bool Tick();
  void Shuffle();
  absl::Status Commit(ReservationId reservation, uint32_t chunk);
  absl::Status Run(Operation operation);
  // Names of a random prefix's rows, as far as it is still stored.
  absl::StatusOr<std::vector<uint64_t>> RandomPrefix();

  const EngineWorkloadOptions options_;
  Rng rng_;
  // The engine's index and its client's page; both outlive it.
  std::unique_ptr<PageMemory> index_;
  std::unique_ptr<wire::ClientPage> page_;
  std::unique_ptr<Engine> engine_;
  Caller caller_;
  ModelId model_;
  absl::Time now_ = absl::FromUnixSeconds(1);
  uint64_t filled_ = 0;   // chunks, of whole prefixes
  uint64_t created_ = 0;  // chunks, ever
  uint64_t moves_ = 0;
  uint64_t operations_ = 0;
  uint64_t refused_ = 0;
  std::vector<wire::Report> reports_;  // that RunReports takes from the end
  std::vector<Operation> mix_;
  std::vector<LeaseId> leases_;
  std::vector<ReservationId> reservations_;
  std::vector<uint64_t> checksums_;
  CommitArgs commit_;
};

}  // namespace kvtier::bench
