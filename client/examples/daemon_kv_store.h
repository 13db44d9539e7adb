#pragma once

// KV in kvtierd, through the kvtier client library.

#include <memory>
#include <optional>
#include <string>

#include "client/examples/kv_store.h"
#include "kvtier/client.h"

namespace kvtier::examples {

class DaemonKvStore : public KvStore {
 public:
  struct Options {
    KvGeometry geometry;
    std::string fingerprint;  // of the weights: workers share KV only if it is equal
    std::string socket;       // empty: the client library's default
    std::string name = "decode_worker";
  };
  // Attaches, or starts without a daemon and attaches when one answers. The refusals of
  // Client::Connect (another major version, an unknown tenant) are errors: they would not go away
  // by waiting.
  static absl::StatusOr<std::unique_ptr<DaemonKvStore>> Create(const Options& options);

  absl::StatusOr<ChunkKey> Key(const ChunkKey& parent, std::span<const uint32_t> tokens) override;
  absl::StatusOr<Lease> Acquire(const std::vector<ChunkKey>& keys) override;
  absl::StatusOr<FetchResult> Fetch(const Lease& lease, KvTable& kv) override;
  bool in_place() const override { return false; }
  void BeginStep(KvTable&) override {}
  void EndStep() override {}
  absl::Status Report(const Lease& lease, const AttentionMass& mass, size_t steps) override;
  absl::Status Release(LeaseId lease) override;
  absl::StatusOr<ReservationId> Reserve(const ChunkKey& parent, size_t chunks) override;
  std::vector<std::byte*> Buffers(ReservationId, size_t) override { return {}; }
  absl::Status Store(ReservationId reservation, const std::vector<StoreBlock>& blocks) override;
  absl::StatusOr<std::vector<CommitOutcome>> Commit(
      ReservationId reservation, const std::vector<ChunkCommitment>& chunks) override;
  absl::Status Abort(ReservationId reservation) override;

 private:
  DaemonKvStore(const Options& options, std::unique_ptr<Client> client);

  // Registers the model once a daemon answers; the client keeps it registered from then on.
  absl::Status EnsureModel();

  const Options options_;
  const std::unique_ptr<Client> client_;
  std::optional<Model> model_;
  absl::Duration lease_ttl_;
  absl::Time lease_renewed_;
};

}  // namespace kvtier::examples
