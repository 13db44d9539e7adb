// What an engine is made of and what it may hold at most.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "tiering/base/bytes.h"
#include "tiering/memory/memory_pool.h"
#include "tiering/move/copy_engine.h"
#include "tiering/plan/placement_policy.h"

namespace kvtier {

struct TenantOptions {
  std::string name;
  std::string salt;
  std::vector<Bytes> quota;  // by pool, same order as EngineOptions::pools
};

struct PoolOptions {
  std::unique_ptr<MemoryPool> pool;
  Bytes budget;  // at most the pool's limit; may be lowered and raised later
};

struct EngineLimits {
  uint64_t chunks_max = 4ull << 20;
  // Blocks that there may be memory for, 16 bytes each: a chunk takes one a plane, committed or
  // not.
  uint64_t blocks_max = 64ull << 20;
  uint32_t models_max = 64;
  uint32_t planes_max = 1024;
  uint32_t sessions_max = 1024;
  uint32_t leases_max = 262'144;
  // Chunks in all leases together, a chunk once for each lease it is in; every tenant has an equal
  // share of them. Bounds what leases take: 4 bytes a chunk.
  uint64_t leased_chunks_max = 16ull << 20;
  uint32_t reservations_max = 16'384;
  uint32_t chunks_per_call_max = 16'384;
  Bytes reserved_bytes_max = GiB(1);  // of one session's reservations, until they end
  absl::Duration session_timeout = absl::Seconds(30);
  absl::Duration lease_ttl = absl::Seconds(60);
  absl::Duration lease_ttl_max = absl::Minutes(10);
  absl::Duration incomplete_chunk_ttl = absl::Seconds(60);
  double retired_share_max = 0.05;
  uint32_t moves_in_flight_max = 64;
  Bytes move_bytes_per_second_max;  // 0: no limit
  uint32_t events_kept = 65'536;    // per tenant
  // A client with a read section open for longer gets no new lease or reservation until it leaves.
  absl::Duration section_max = absl::Seconds(10);  // section_ms_max
};

// Memory that clients look blocks up in by themselves (proto/wire/shared_index.h).
struct ShareOptions {
  // By tenant, each of Engine::IndexBytes, zeroed, aligned to 4 KiB; outlives the engine. Empty:
  // nothing is shared, which costs nothing.
  std::vector<absl::Span<std::byte>> index;
  uint64_t daemon_epoch = 0;  // as clients are told it
  uint64_t seed = 0;          // of the indexes' hashes
};

struct EngineOptions {
  std::vector<PoolOptions> pools;      // fastest first; 1 to CopyRef::kPoolsMax
  std::vector<TenantOptions> tenants;  // at least one
  std::unique_ptr<PlacementPolicy> policy;
  std::unique_ptr<CopyEngine> copies;
  EngineLimits limits;
  // Of the index over chunk keys. Where clients choose keys it has to be secret and random, or they
  // could choose ones that are slow to look up; with the same seed a run can be repeated.
  uint64_t index_seed = 0;
  ShareOptions share;
};

}  // namespace kvtier
