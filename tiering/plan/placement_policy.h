// The PlacementPolicy seam: where new blocks go, what is moved, what is given up first.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "tiering/base/bytes.h"
#include "tiering/base/ids.h"
#include "tiering/block/block_catalog.h"

namespace kvtier {

// Room of one tenant in one pool, in bytes: `used` counts slots handed out, `limit` is the smaller
// of the tenant's quota and the pool's budget, in whole segments. `missed` is what did not find a
// slot there since the last Plan: segments are cut into slots of one size, so a pool can be full
// for some blocks long before `used` reaches `limit`.
struct PoolRoom {
  Bytes used;
  Bytes limit;
  Bytes missed{};
};

// One copy to be made. With keep_source the source stays as a second copy, else it is dropped
// after.
struct MoveIdea {
  RowIndex row = kNoRow;
  PlaneIndex plane;
  PoolId from;
  PoolId to;
  bool keep_source = false;
};

// What a policy may look at. Both references outlive the policy.
class PlacementView {
 public:
  virtual ~PlacementView() = default;
  virtual const BlockCatalog& table() const = 0;
  virtual size_t pool_count() const = 0;
  virtual size_t tenant_count() const = 0;
  virtual PoolRoom Room(TenantId tenant, PoolId pool) const = 0;
  // The engine refuses moves of the tenant's blocks out of the pool for now: readers hold as many
  // of its slots there as may wait for them.
  virtual bool MovesStopped(TenantId tenant, PoolId from) const = 0;
  // Size of a slot that holds this plane.
  virtual Bytes SlotBytes(ModelId model, PlaneIndex plane) const = 0;
  // When the tenant's newest access was; within OnCommit, OnTouch and OnRead, when this one is.
  // Never goes back. Of the tenant's own: it may run faster or slower than Plan's `now`
  // (tiering/engine/access_clock.h), so compare it with that tenant's only.
  virtual absl::Time AccessTime(TenantId tenant) const = 0;
};

// Called by the engine only, on its thread. Deterministic: the same calls give the same answers. A
// policy keeps its state per chunk in the row's own policy words (BlockCatalog::policy_words), so
// that a touch costs no cache miss beyond the row's. Rows named to it are live; OnRemove is the
// last call for one.
class PlacementPolicy {
 public:
  virtual ~PlacementPolicy() = default;

  virtual const char* name() const = 0;

  // Called once, before anything else.
  virtual void Bind(const PlacementView* view, BlockCatalog* table) = 0;

  // A chunk became visible.
  virtual void OnCommit(RowIndex row) = 0;
  // Chunks of one prefix were looked up or reported as read, in prefix order.
  virtual void OnTouch(absl::Span<const RowIndex> rows) = 0;
  // A report: over `steps` steps the plane's block was read with this mean attention mass (0 to 1)
  // a step.
  virtual void OnRead(RowIndex row, PlaneIndex plane, uint32_t steps, double mass) = 0;
  // The chunk will be used soon.
  virtual void OnPrefetch(RowIndex row) = 0;
  // A block of the chunk gained or lost a copy.
  virtual void OnResidency(RowIndex row) = 0;
  virtual void OnRemove(RowIndex row) = 0;

  // Pools for a new block, best first; the engine takes the first with room.
  virtual void PlaceNew(TenantId tenant, ModelId model, PlaneIndex plane,
                        std::vector<PoolId>& pools) = 0;

  // A chunk of `tenant` to drop so that `pool` gains room: droppable (BlockCatalog::Droppable), and
  // bringing room there nearer (VictimHelp in victim_help.h); kNoRow when there is none. A bounded
  // search: kNoRow may also mean "ask again".
  virtual RowIndex Victim(TenantId tenant, PoolId pool) = 0;

  // Appends at most `ideas_max` moves worth making now, most valuable first. The engine may refuse
  // any of them.
  virtual void Plan(absl::Time now, size_t ideas_max, std::vector<MoveIdea>& ideas) = 0;
};

}  // namespace kvtier
