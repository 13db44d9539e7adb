// A model small enough to run in a test, and a store that fails as a test says.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "client/examples/kv_store.h"
#include "client/examples/weights.h"

namespace kvtier::examples {

constexpr size_t kChunkTokens = 16;

inline const Weights& TestWeights() {
  static const Weights* weights = [] {
    ModelConfig config;
    config.num_hidden_layers = 3;
    config.hidden_size = 64;
    config.head_dim = 16;
    config.intermediate_size = 88;
    return new Weights(*RandomWeights(config, 5));
  }();
  return *weights;
}

inline KvGeometry Geometry(KvType type = KvType::kFloat32) {
  return *KvGeometry::Create(TestWeights().config, type, kChunkTokens);
}

inline std::string Text(size_t size, char seed = 'a') {
  std::string text;
  for (size_t i = 0; i < size; ++i)
    text.push_back(static_cast<char>('a' + (i * i + static_cast<size_t>(seed)) % 23));
  return text;
}

inline absl::Status Damaged() { return absl::DataLossError("checksum mismatch"); }

// Passes everything on, unless a hook is set.
class FaultyStore : public KvStore {
 public:
  explicit FaultyStore(KvStore& base) : base_(base) {}

  absl::StatusOr<ChunkKey> Key(const ChunkKey& parent, std::span<const uint32_t> tokens) override {
    if (!down.ok()) return down;
    return base_.Key(parent, tokens);
  }
  absl::StatusOr<Lease> Acquire(const std::vector<ChunkKey>& keys) override {
    if (!down.ok()) return down;
    if (!acquire_status.ok()) return acquire_status;
    const auto lease = base_.Acquire(keys);
    if (lease.ok() && lease->id != 0) ++leases_open;
    return lease;
  }
  absl::StatusOr<FetchResult> Fetch(const Lease& lease, KvTable& kv) override {
    if (!down.ok()) return down;
    auto result = base_.Fetch(lease, kv);
    if (on_fetch) on_fetch(kv);
    if (result.ok() && damaged_chunk && *damaged_chunk < lease.chunks) {
      result->blocks[*damaged_chunk * kv.geometry().planes() + 2] = Damaged();
      if (kv.memory(*damaged_chunk) == ChunkMemory::kOwn) {
        kv.writable_plane(*damaged_chunk, 2)[0] ^= std::byte{1};
      } else {
        kv.Lose(*damaged_chunk, Damaged());
      }
      damaged_chunk.reset();
    }
    return result;
  }
  bool in_place() const override { return base_.in_place(); }
  void BeginStep(KvTable& kv) override {
    base_.BeginStep(kv);
    if (on_begin) on_begin(kv);
  }
  void EndStep() override { base_.EndStep(); }
  absl::Status Report(const Lease& lease, const AttentionMass& mass, size_t steps) override {
    if (!down.ok()) return down;
    reported.push_back({lease.chunks, mass, steps});
    return base_.Report(lease, mass, steps);
  }
  absl::Status Release(LeaseId lease) override {
    if (!down.ok()) return down;
    --leases_open;
    return base_.Release(lease);
  }
  absl::StatusOr<ReservationId> Reserve(const ChunkKey& parent, size_t chunks) override {
    ++reserves;
    if (!down.ok()) return down;
    if (on_reserve) {
      const absl::Status status = on_reserve(chunks);
      if (!status.ok()) return status;
    }
    return base_.Reserve(parent, chunks);
  }
  std::vector<std::byte*> Buffers(ReservationId reservation, size_t chunk) override {
    if (!down.ok() || chunk >= buffers_max) return {};
    return base_.Buffers(reservation, chunk);
  }
  absl::Status Store(ReservationId reservation, const std::vector<StoreBlock>& blocks) override {
    if (!down.ok()) return down;
    if (!store_status.ok()) return store_status;
    return base_.Store(reservation, blocks);
  }
  absl::StatusOr<std::vector<CommitOutcome>> Commit(
      ReservationId reservation, const std::vector<ChunkCommitment>& chunks) override {
    if (!down.ok()) return down;
    if (!commit_status.ok()) return commit_status;
    return base_.Commit(reservation, chunks);
  }
  absl::Status Abort(ReservationId reservation) override {
    if (!down.ok()) return down;
    return base_.Abort(reservation);
  }

  struct Reported {
    size_t chunks;
    AttentionMass mass;
    size_t steps;
  };

  absl::Status down;          // every call fails with it
  absl::Status store_status;  // Store fails with it
  absl::Status commit_status;
  absl::Status acquire_status;
  std::function<absl::Status(size_t chunks)> on_reserve;
  std::function<void(KvTable& kv)> on_begin;  // of a step
  std::function<void(KvTable& kv)> on_fetch;
  std::optional<size_t> damaged_chunk;  // one plane of it comes back wrong, once
  size_t buffers_max = 1000;            // chunks of a reservation that are in place
  size_t reserves = 0;
  int leases_open = 0;
  std::vector<Reported> reported;

 private:
  KvStore& base_;
};

}  // namespace kvtier::examples
