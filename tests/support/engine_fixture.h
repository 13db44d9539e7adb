// An engine on simulated pools and copies, with the calls that most tests make.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "sim/sim_copy_engine.h"
#include "sim/sim_pool.h"
#include "tests/support/index_memory.h"
#include "tests/support/test_policies.h"
#include "tiering/engine/engine.h"

namespace kvtier::test_support {

// kShuffle and kScripted: tests/support/test_policies.h.
enum class PolicyChoice : uint8_t { kLru, kStaticSplit, kShuffle, kScripted };

struct EngineFixtureOptions {
  PolicyChoice policy = PolicyChoice::kLru;
  Bytes segment_bytes = KiB(8);
  // Pool 0 is an HBM pool, the others are DRAM. The budget of each is its whole size.
  std::vector<uint32_t> segments = {4, 12};
  uint16_t tenants = 1;
  // Of every tenant, by pool, in segments; empty: all of it.
  std::vector<uint32_t> quota_segments;
  EngineLimits limits;
  uint64_t copy_seed = 1;
  uint32_t copy_polls_max = 3;
  bool with_bytes = true;
  bool shared = false;  // tenants have an index in shared memory
};

// Time stands still until Advance(). Not thread-safe.
class EngineFixture {
 public:
  explicit EngineFixture(EngineFixtureOptions options = {});

  Engine& engine() { return *engine_; }
  sim::SimPool& pool(size_t index) { return *pools_[index]; }
  size_t pool_count() const { return pools_.size(); }
  sim::SimCopyEngine& copies() { return *copies_; }
  // By tenant; empty without EngineFixtureOptions::shared.
  const std::vector<std::unique_ptr<IndexMemory>>& index_memory() const { return index_memory_; }
  // With PolicyChoice::kScripted.
  ScriptedPolicy& script();
  absl::Time now() const { return now_; }
  const EngineFixtureOptions& options() const { return options_; }

  // Moves the clock and ticks once. Returns what Tick returned.
  bool Advance(absl::Duration step);
  // Ticks in small steps until no move is wanted or in flight, at most `ticks_max` times.
  void Settle(int ticks_max = 200);

  // A new session of the tenant; it must be possible.
  Caller Attach(uint16_t tenant = 0);
  ModelId Register(Caller caller, const ModelSpec& spec);

  // Reserves one chunk behind `parent` (zero: none), writes what BlockContent says and commits
  // `planes` (empty: all). The reservation is gone afterwards, whatever came of it.
  absl::StatusOr<CommitOutcome> Put(Caller caller, ModelId model, const wire::ChunkKey& parent,
                                    const wire::ChunkKey& key, std::vector<PlaneIndex> planes = {},
                                    uint32_t token_count = 0);
  // Puts a chain of chunks; each must be committed.
  void PutChain(Caller caller, ModelId model, absl::Span<const wire::ChunkKey> keys);
  // Writes the content of `key` into the reserved slots of one chunk and returns the arguments that
  // commit it.
  CommitArgs Fill(Caller caller, ReservationId reservation, uint32_t chunk, ModelId model,
                  const wire::ChunkKey& key, std::vector<PlaneIndex> planes,
                  uint32_t token_count = 0);

  LookupResult Lookup(Caller caller, ModelId model, absl::Span<const wire::ChunkKey> keys,
                      bool lease = true);
  // How many chunks of the lookup match, without a lease.
  uint32_t Matched(Caller caller, ModelId model, absl::Span<const wire::ChunkKey> keys);
  // Resolves all planes of a leased chunk; every copy must have the content of `key`.
  std::vector<ReadTarget> Read(Caller caller, LeaseId lease, uint32_t chunk,
                               const wire::ChunkKey& key);
  // Flips one bit of one copy of a leased chunk's block.
  void Corrupt(Caller caller, LeaseId lease, uint32_t chunk, PlaneIndex plane, uint8_t copy = 0);
  // All events of the tenant that are still kept, after `after`.
  std::vector<Event> Events(uint16_t tenant = 0, uint64_t after = 0);
  // Bytes in slots handed out, over all pools.
  Bytes Used();

 private:
  EngineFixtureOptions options_;
  std::vector<std::unique_ptr<IndexMemory>> index_memory_;
  std::vector<sim::SimPool*> pools_;  // owned by the engine
  sim::SimCopyEngine* copies_ = nullptr;
  std::unique_ptr<Engine> engine_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
};

// The engine's options behind a fixture, for tests that build an engine themselves. The pointers
// into what the options own are set when not null.
EngineOptions MakeEngineOptions(const EngineFixtureOptions& options,
                                std::vector<sim::SimPool*>* pools = nullptr,
                                sim::SimCopyEngine** copies = nullptr);

// The static split gives every pool the same share of the planes.
std::unique_ptr<PlacementPolicy> MakePolicy(PolicyChoice choice, size_t pool_count);

}  // namespace kvtier::test_support
