#pragma once

// KV in kvtierd, through the kvtier client library: in place where the daemon shares memory, else
// copied through its streams.

#include <memory>
#include <optional>
#include <string>

#include "client/examples/kv_store.h"
#include "client/examples/pause_points.h"
#include "kvtier/client.h"

namespace kvtier::examples {

class DaemonKvStore : public KvStore {
 public:
  struct Options {
    KvGeometry geometry;
    std::string fingerprint;  // of the weights: workers share KV only if it is equal
    std::string socket;       // empty: the client library's default
    std::string name = "decode_worker";
    Transport transport = Transport::kAuto;
    Verify verify = Verify::kFirstRead;
  };
  // `pauses` must outlive the store.
  // Attaches, or starts without a daemon and attaches when one answers. The refusals of
  // Client::Connect (another major version, an unknown tenant) are errors: they would not go away
  // by waiting.
  static absl::StatusOr<std::unique_ptr<DaemonKvStore>> Create(const Options& options,
                                                               PausePoints& pauses);

  absl::StatusOr<ChunkKey> Key(const ChunkKey& parent, std::span<const uint32_t> tokens) override;
  absl::StatusOr<Lease> Acquire(const std::vector<ChunkKey>& keys) override;
  absl::StatusOr<FetchResult> Fetch(const Lease& lease, KvTable& kv) override;
  bool in_place() const override { return client_->transport() == Transport::kSharedMemory; }
  // A read section of the client.
  void BeginStep(KvTable& kv) override;
  void EndStep() override { section_.reset(); }
  absl::Status Report(const Lease& lease, const AttentionMass& mass, size_t steps) override;
  absl::Status Release(LeaseId lease) override;
  absl::StatusOr<ReservationId> Reserve(const ChunkKey& parent, size_t chunks) override;
  std::vector<std::byte*> Buffers(ReservationId reservation, size_t chunk) override;
  absl::Status Store(ReservationId reservation, const std::vector<StoreBlock>& blocks) override;
  absl::StatusOr<std::vector<CommitOutcome>> Commit(
      ReservationId reservation, const std::vector<ChunkCommitment>& chunks) override;
  absl::Status Abort(ReservationId reservation) override;

  // "shared_memory", "stream", or "none" while no daemon answers.
  const char* transport_name() const;

 private:
  // A reserved chunk that is written in place.
  struct Placed {
    ReservationId reservation = 0;
    size_t chunk = 0;  // within the reservation
    std::vector<std::byte*> planes;
  };

  DaemonKvStore(const Options& options, PausePoints& pauses, std::unique_ptr<Client> client);

  // Registers the model once a daemon answers; the client keeps it registered from then on.
  absl::Status EnsureModel();
  // Well before the lease runs out, so that one late step does not lose it.
  absl::Status RenewIfDue(LeaseId lease);
  absl::StatusOr<FetchResult> FetchByCopy(const Lease& lease, KvTable& kv);
  absl::StatusOr<FetchResult> FetchInPlace(const Lease& lease, KvTable& kv);
  // Follows the fetched lease's blocks, and loses what cannot be found.
  void UpdateViews(KvTable& kv);
  // Loses reserved chunks that are not where they were: their reservation is gone.
  void CheckPlaced(KvTable& kv);
  // The client's addresses for a reserved chunk, as they are now; empty: there are none.
  std::vector<std::byte*> ClientBuffers(ReservationId reservation, size_t chunk);

  const Options options_;
  PausePoints& pauses_;
  const std::unique_ptr<Client> client_;
  std::optional<Model> model_;
  absl::Duration lease_ttl_;
  absl::Time lease_renewed_;
  std::optional<ReadSection> section_;  // of the open step
  LeaseId table_lease_ = 0;
  std::optional<BlockTable> table_;      // of table_lease_
  std::vector<ReservationId> to_abort_;  // while no daemon answered
  std::vector<Placed> placed_;  // in the order in which they were asked for; of one reservation
};

}  // namespace kvtier::examples
