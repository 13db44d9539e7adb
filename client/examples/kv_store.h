#pragma once

// Where a worker keeps KV beyond one prompt. Two implementations: the worker's own memory
// (LocalKvStore) and kvtierd (DaemonKvStore). Both may let the worker read and write blocks where
// they lie. No call may be relied on: a worker that gets an error recomputes and goes on.

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/examples/transformer.h"

namespace kvtier::examples {

// Names a chunk and, through its parent, everything before it. All zeros: no parent.
using ChunkKey = std::array<uint8_t, 16>;

// One plane of one chunk, to be stored; `chunk` counts within the reservation.
struct StoreBlock {
  size_t chunk = 0;
  size_t plane = 0;
  std::span<const std::byte> bytes;
};

struct FetchResult {
  // Chunk by chunk, in each the planes in their order. A chunk with a failed block is not readable.
  std::vector<absl::Status> blocks;
  std::map<std::string, uint64_t> bytes_by_pool;
};

struct ChunkCommitment {
  size_t chunk = 0;  // within the reservation
  ChunkKey key{};
  size_t token_count = 0;
};

enum class CommitOutcome { kCommitted, kAlreadyExists };

// Used by one thread. Errors, everywhere: RESOURCE_EXHAUSTED no room now; UNAVAILABLE nobody
// answers; NOT_FOUND or FAILED_PRECONDITION a lease, reservation or parent is gone.
class KvStore {
 public:
  using LeaseId = uint64_t;
  using ReservationId = uint64_t;
  struct Lease {
    LeaseId id = 0;  // 0: none
    size_t chunks = 0;
  };

  virtual ~KvStore() = default;

  virtual absl::StatusOr<ChunkKey> Key(const ChunkKey& parent,
                                       std::span<const uint32_t> tokens) = 0;

  // Leases the longest prefix of `keys` that is stored. No chunk: no lease.
  virtual absl::StatusOr<Lease> Acquire(const std::vector<ChunkKey>& keys) = 0;
  // Makes the chunks of a lease readable through `kv`, as its first ones: named there, to be read
  // in place from now on, or copied into its own memory. Within a step. Fails as a whole or block
  // by block; DATA_LOSS: the bytes did not match their checksum and that copy is gone.
  virtual absl::StatusOr<FetchResult> Fetch(const Lease& lease, KvTable& kv) = 0;

  // Whether blocks are read and written where they lie, as things are now.
  virtual bool in_place() const = 0;
  // Memory of a store may be touched within a step only; at most one is open. `kv` is brought up to
  // date: blocks of the last fetched lease may have moved, and what cannot be read any more, nor
  // written, is lost there. Keep steps short: while one is open the store cannot use memory again
  // that a block has left.
  virtual void BeginStep(KvTable& kv) = 0;
  virtual void EndStep() = 0;

  // What `steps` steps attended to, over the first `chunks` columns of `mass`. Keeps the lease
  // alive.
  virtual absl::Status Report(const Lease& lease, const AttentionMass& mass, size_t steps) = 0;
  virtual absl::Status Release(LeaseId lease) = 0;

  // Room for `chunks` consecutive chunks after `parent`. Ends with Abort, or with the Commit of all
  // of them.
  virtual absl::StatusOr<ReservationId> Reserve(const ChunkKey& parent, size_t chunks) = 0;
  // Where to write a reserved chunk in place, an address for each plane, until it is committed or
  // the reservation ends. Empty: not in place, use Store.
  virtual std::vector<std::byte*> Buffers(ReservationId reservation, size_t chunk) = 0;
  virtual absl::Status Store(ReservationId reservation, const std::vector<StoreBlock>& blocks) = 0;
  // Publishes chunks in order. An error may come after some were published. What was written in
  // place may be read on within the same step, and must not be written any more.
  virtual absl::StatusOr<std::vector<CommitOutcome>> Commit(
      ReservationId reservation, const std::vector<ChunkCommitment>& chunks) = 0;
  virtual absl::Status Abort(ReservationId reservation) = 0;
};

// A step, to the end of the scope.
class KvStep {
 public:
  KvStep(KvStore& store, KvTable& kv) : store_(store) { store_.BeginStep(kv); }
  ~KvStep() { store_.EndStep(); }
  KvStep(const KvStep&) = delete;
  KvStep& operator=(const KvStep&) = delete;

 private:
  KvStore& store_;
};

}  // namespace kvtier::examples
