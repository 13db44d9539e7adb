// The production engine on a simulated machine, with checks of what it must never do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "proto/wire/chunk_key.h"
#include "sim/machine.h"
#include "sim/sim_clock.h"
#include "sim/sim_copy_engine.h"
#include "sim/sim_machine.h"
#include "sim/sim_pool.h"
#include "sim/watched_policy.h"
#include "tiering/engine/engine.h"
#include "tiering/plan/placement_policy.h"

namespace kvtier::sim {

// Looks of the engine at a phase's work, when there is something to move.
inline constexpr int kTicksPerPhase = 4;

struct SimulatedEngineOptions {
  Machine machine;
  std::vector<size_t> tiers;  // SimMachine::Create
  // Of the GPU's own memory, and not for blocks.
  uint64_t weight_bytes = 0;
  uint64_t plane_bytes = 0;  // of a chunk that is full; all planes have equal size
  uint32_t plane_count = 1;
  uint32_t chunk_tokens = 1;
  uint64_t chunk_count = 0;  // that there will ever be
  std::unique_ptr<PlacementPolicy> policy;
  uint64_t seed = 1;
  // Of every tier's segments; 0: as large as they have to be, so that as little as possible of a
  // tier is kept free or lost to rounding.
  uint64_t segment_bytes = 0;
  uint32_t moves_in_flight_max = 512;
  bool reorder = false;  // completions of copies
};

// What a chunk and a plane of it hold, by their numbers; never 0.
uint64_t ContentTag(uint64_t chunk, uint32_t plane);
// A key that says the chunk's number in its last eight bytes (wire::ChunkKey::high).
wire::ChunkKey SimChunkKey(uint64_t chunk);

// One tenant, session and model; chunks have numbers. Time passes in phases: what a phase's work
// takes of the machine is told first, then EndPhase lets the engine move blocks meanwhile. Copies
// start while the phase's work goes on, and the phase lasts until the last of them ends: so no
// operation is under way between two phases, and what a phase took of a port never exceeds the
// port's rate times its time. Deterministic; not thread-safe.
class SimulatedEngine {
 public:
  // Errors name the tier, the number and the limit. RESOURCE_EXHAUSTED: weights that do not fit the
  // GPU's own memory, a tier without room for one block. INVALID_ARGUMENT: more blocks than can be
  // addressed.
  static absl::StatusOr<std::unique_ptr<SimulatedEngine>> Create(SimulatedEngineOptions options);

  Engine& engine() { return *engine_; }
  Caller caller() const { return caller_; }
  ModelId model() const { return model_; }
  absl::Time now() { return clock_.Now(); }
  SimTime time() const { return clock_.elapsed_ns(); }
  SimMachine& machine() { return *machine_; }
  SimPool& pool(size_t tier) { return *pools_[tier]; }
  SimCopyEngine& copies() { return *copies_; }
  const BlockCatalog& table() const { return *watch_->table(); }
  Bytes slot_bytes() const { return slot_bytes_; }
  uint64_t slots(size_t tier) const { return slots_[tier]; }

  // The phase's own work, which begins now: returns when it ends.
  SimTime Do(const OperationCost& cost) { return DoFrom(time(), cost); }
  // A part of it that cannot begin before `start`, which is not in the past.
  SimTime DoFrom(SimTime start, const OperationCost& cost);
  SimTime work_ends() const { return work_ends_; }
  // Lets time pass until the phase's work is done, with `ticks` looks of the engine at it, and then
  // until no copy is under way.
  absl::Status EndWork(int ticks);
  // The engine looks at nothing until the work is done; then it does all that it wants to do, copy
  // after copy, and the phase ends with the last of them.
  absl::Status EndWorkSettled();
  // Nothing is done but what the engine moves; at least so long. Before the first phase.
  absl::Status Pass(SimTime duration, int ticks);
  // Ticks that take no time, until the engine has made the room that it keeps free ahead.
  void Settle();

  // The block's copy that is named first in `target` has its content; else the error says where it
  // was looked for and what was there.
  absl::Status CheckContent(const ReadTarget& target, uint64_t chunk) const;
  // All of the table: blocks' contents, slots with two blocks, capacities, and the engine's own
  // invariants, which panic. Blocks of pools in `lost` may have lost their contents.
  absl::Status CheckAll(uint32_t lost_pools = 0) const;

 private:
  SimulatedEngine() = default;
  void AdvanceTo(SimTime time);
  // Nothing is under way. OUT_OF_RANGE: simulated time has run over.
  absl::Status EndPhase();

  SimClock clock_;
  std::unique_ptr<SimMachine> machine_;
  std::vector<SimPool*> pools_;  // the engine's
  SimCopyEngine* copies_ = nullptr;
  WatchedPolicy* watch_ = nullptr;
  std::unique_ptr<Engine> engine_;
  Caller caller_;
  ModelId model_;
  Bytes slot_bytes_;
  std::vector<uint64_t> slots_;
  SimTime work_ends_ = 0;
};

}  // namespace kvtier::sim
