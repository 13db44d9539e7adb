#pragma once

// KV in the worker's own memory: what an engine has without kvtier. It forgets nothing and refuses
// more when full. Blocks are read and written in place, or copied, as from a daemon without shared
// memory.

#include <map>
#include <memory>

#include "client/examples/kv_store.h"

namespace kvtier::examples {

class LocalKvStore : public KvStore {
 public:
  struct Options {
    KvGeometry geometry;
    size_t bytes_max =
        size_t{1} << 30;  // of committed and reserved chunks; RESOURCE_EXHAUSTED beyond
    bool in_place = true;
  };
  explicit LocalKvStore(const Options& options) : options_(options) {}

  absl::StatusOr<ChunkKey> Key(const ChunkKey& parent, std::span<const uint32_t> tokens) override;
  absl::StatusOr<Lease> Acquire(const std::vector<ChunkKey>& keys) override;
  absl::StatusOr<FetchResult> Fetch(const Lease& lease, KvTable& kv) override;
  bool in_place() const override { return options_.in_place; }
  void BeginStep(KvTable&) override {}
  void EndStep() override { until_end_of_step_.clear(); }
  absl::Status Report(const Lease& lease, const AttentionMass& mass, size_t steps) override;
  absl::Status Release(LeaseId lease) override;
  absl::StatusOr<ReservationId> Reserve(const ChunkKey& parent, size_t chunks) override;
  std::vector<std::byte*> Buffers(ReservationId reservation, size_t chunk) override;
  absl::Status Store(ReservationId reservation, const std::vector<StoreBlock>& blocks) override;
  absl::StatusOr<std::vector<CommitOutcome>> Commit(
      ReservationId reservation, const std::vector<ChunkCommitment>& chunks) override;
  absl::Status Abort(ReservationId reservation) override;

  size_t chunks() const { return committed_.size(); }
  size_t bytes() const { return bytes_; }

 private:
  using ChunkBytes = std::unique_ptr<std::byte[]>;

  Options options_;
  std::map<ChunkKey, ChunkBytes> committed_;
  std::map<ReservationId, std::vector<ChunkBytes>> reserved_;
  std::map<LeaseId, std::vector<ChunkKey>> leases_;
  std::vector<ChunkBytes> until_end_of_step_;  // given up, but somebody may still read there
  uint64_t last_id_ = 0;
  size_t bytes_ = 0;
};

}  // namespace kvtier::examples
