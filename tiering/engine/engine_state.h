// The engine's state and the steps that several requests share. Internal to tiering/engine.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "tiering/block/block_catalog.h"
#include "tiering/engine/access_clock.h"
#include "tiering/engine/engine.h"
#include "tiering/engine/engine_share.h"
#include "tiering/engine/owned_table.h"
#include "tiering/memory/slot_allocator.h"
#include "tiering/memory/slot_quarantine.h"
#include "tiering/move/move_table.h"

namespace kvtier {

struct Session {
  TenantId tenant;
  absl::Time seen;  // last sign of life
  OwnedList leases;
  OwnedList reservations;
  ShmClientId shared;         // its client of shared memory; zero: none
  bool logical_time = false;  // it joined its tenant's AccessClock
  Bytes reserved;             // slot bytes in its reservations
};

struct Lease {
  SessionId session;
  ModelId model;
  absl::Time deadline;
  absl::InlinedVector<RowIndex, 4> rows;  // in prefix order
};

struct Reservation {
  SessionId session;
  ModelId model;
  RowIndex parent = kNoRow;  // pinned
  uint32_t chunk_count = 0;
  std::vector<PlaneIndex> planes;
  std::vector<CopyRef> slots;  // chunk-major; invalid once committed
  size_t open_slots = 0;       // those still valid
  ShmClientId writer;          // whose inboxes they are in; zero: not in place
  std::vector<RowIndex> rows;  // of committed chunks, pinned; kNoRow until then
  Bytes bytes;
};

// A chunk whose planes have not all come yet.
struct IncompleteChunk {
  RowIndex row = kNoRow;
  uint32_t generation = 0;
  SessionId creator;
  absl::Time deadline;
};

// What a tenant has of the tables that all tenants share.
struct TenantUse {
  uint64_t sessions = 0, models = 0, leases = 0, leased_chunks = 0, reservations = 0;
  uint64_t chunks = 0, blocks = 0;
};

struct RegisteredSpec {
  TenantId tenant;
  ModelSpec spec;
  wire::ModelFingerprint fingerprint{};
};

struct Engine::State : public PlacementView {
  explicit State(EngineOptions options_in);

  // --- PlacementView
  // ----------------------------------------------------------------------------------------
  const BlockCatalog& table() const override { return blocks; }
  size_t pool_count() const override { return allocators.size(); }
  size_t tenant_count() const override { return tenants.size(); }
  PoolRoom Room(TenantId tenant, PoolId pool) const override;
  bool MovesStopped(TenantId tenant, PoolId from) const override;
  Bytes SlotBytes(ModelId model, PlaneIndex plane) const override;
  absl::Time AccessTime(TenantId tenant) const override {
    return access_clocks[tenant.value()].newest();
  }

  // --- who asks
  // ---------------------------------------------------------------------------------------------
  absl::StatusOr<Session*> FindSession(Caller caller);
  absl::StatusOr<const RegisteredSpec*> FindSpec(TenantId tenant, ModelId model) const;
  absl::StatusOr<Lease*> FindLease(Caller caller, LeaseId lease);
  absl::StatusOr<Reservation*> FindReservation(Caller caller, ReservationId reservation);
  void EndSession(SessionId session);
  void EndLease(Session& session, LeaseId lease);
  // What one tenant may have of a limit on a table: an even share, at least one.
  uint64_t Share(uint64_t limit) const { return std::max<uint64_t>(1, limit / tenants.size()); }
  // RESOURCE_EXHAUSTED when the tenant has its share of `what`, or others have too much of it.
  absl::Status CheckShare(TenantId tenant, const char* what, uint64_t count, uint64_t all,
                          uint64_t limit) const;
  // A new row with blocks for all planes; kNoRow at the tenant's share of chunks or blocks.
  RowIndex CreateRow(TenantId tenant, ModelId model, const wire::ChunkKey& key, RowIndex parent,
                     uint32_t token_count);
  void RemoveRow(RowIndex row);
  void EndReservation(Session& session, ReservationId reservation);

  // Blocks of a reservation's chunks that are allocated as one run: neighbouring planes that go to
  // the same pools in slots of the same size.
  struct SlotGroup {
    std::vector<PoolId> pools;
    Bytes block_bytes;
    size_t count = 0;
  };
  // RESOURCE_EXHAUSTED, with the numbers, where so many chunks could not fit even if everything of
  // the tenant's were dropped.
  absl::Status CheckFits(TenantId tenant, const std::vector<SlotGroup>& groups,
                         uint32_t chunk_count) const;

  // How many different sizes their slots have: so many inboxes it takes to write them in place.
  uint32_t SlotSizes(const std::vector<SlotGroup>& groups) const;

  // --- shared memory
  // --------------------------------------------------------------------------------------
  // RESOURCE_EXHAUSTED while the session's client is over the section limit.
  absl::Status CheckSections(const Session& session);
  void TakeReports();
  // Its writers want more than half of the tenant's segments for inboxes. They would take them from
  // each other, and each time what is in one is lost: so all write by stream, into slots that any
  // of them can use.
  bool WritersCrowd(TenantId tenant) const;

  // --- slots
  // ------------------------------------------------------------------------------------------------
  SlotAllocator& allocator(PoolId pool) { return *allocators[pool.value()]; }
  const SlotAllocator& allocator(PoolId pool) const { return *allocators[pool.value()]; }
  SlotAddress AddressOf(CopyRef slot) const;
  std::byte* BytesOf(CopyRef slot) const { return allocator(slot.pool()).AddressOf(slot); }
  // Notes that so much did not find a slot, up to the pool's budget.
  void Miss(TenantId tenant, PoolId pool, Bytes bytes);
  // Keeps the slot from reuse until no open section can hold it; then a later reclaim frees it.
  // Returns its size.
  Bytes Retire(CopyRef slot);
  // Frees what no section holds any more: of a tenant, or of all. That looks at every section of
  // the tenants' clients, as many as there may be: so a tick does it once for all, and a call that
  // makes room does it for its tenant, and not for each chunk that it drops.
  void ReclaimRetired(TenantId tenant);
  void ReclaimRetired();
  // Who gets slots: a tenant, or one of its clients of shared memory for its inboxes.
  struct SlotUser {
    TenantId tenant;
    ShmClientId writer;
  };
  // What one call does to make room.
  struct RoomMaking {
    Bytes allowance;      // chunks of so many bytes may still be dropped
    bool looked = false;  // what was retired before is reclaimed
    size_t per_look = 1;  // chunks dropped before the next reclaim; doubles
    int tried = 0;        // steps of one MakeRoom for slots in pool segments
    int useless = 0;      // chunks dropped without such a slot since a segment was emptied
  };
  // `count` slots in the first of `pools` that has room, evicting from the last one first if none
  // has. With `calls` the caller says how often it will ask for the same, this time included: room
  // is made for all of them at once.
  bool AllocateSlots(SlotUser user, const std::vector<PoolId>& pools, Bytes block_bytes,
                     size_t count, uint32_t calls, RoomMaking& making, std::vector<CopyRef>& slots);
  // Drops chunks until `allocate` returns true, which takes `needed` bytes, or nothing is left to
  // be dropped for it. Where several have to go, as many go before one look as make room for
  // `wanted`.
  bool MakeRoom(SlotUser user, PoolId pool, Bytes block_bytes, Bytes needed, Bytes wanted,
                RoomMaking& making, absl::FunctionRef<bool()> allocate);
  // One step of it; each returns the bytes that were dropped, in all pools together, and 0 when
  // nothing can go. For a writer chunks in inboxes go, of whomever: what is free in another's
  // serves that one next. Where a pool segment is next, the writer gets that by stream. Only a
  // writer that has no inbox at all is given a segment.
  Bytes MakeRoomInInbox(SlotUser user, PoolId pool, Bytes block_bytes);
  Bytes MakeRoomInPool(TenantId tenant, PoolId pool, Bytes block_bytes, RoomMaking& making);
  // The slots of a reservation's chunks, all or none: null, or the group that found no room.
  const SlotGroup* AllocateChunks(SlotUser user, const std::vector<SlotGroup>& groups,
                                  uint32_t chunk_count, std::vector<CopyRef>& slots);
  // The same for the destinations of a move, in one pool. Only the last pool drops chunks for it:
  // those that are next to go in any case, at most `count`, and each has to free a slot of this
  // size. A move is not worth more; what cannot move stays where it is. Takes from `move_looks`.
  bool AllocateForMove(TenantId tenant, PoolId pool, Bytes block_bytes, size_t count,
                       std::vector<CopyRef>& slots);
  // What the policy would drop next; kNoRow when nothing can go.
  RowIndex FindVictim(TenantId tenant, PoolId pool);
  // Drops one victim. Returns the bytes that were dropped, in all pools together; 0 when nothing
  // can go.
  Bytes EvictOne(TenantId tenant, PoolId pool);
  Bytes DropVictim(RowIndex victim);
  bool AnyCopyIn(RowIndex row, PoolId pool, absl::FunctionRef<bool(CopyRef)> wanted) const;
  // The chunk has a block in the pool whose slot is one of those that such blocks of the user get.
  bool HasSlotFor(SlotUser user, PoolId pool, Bytes block_bytes, RowIndex row) const;
  // It has a block in the pool in some client's inbox.
  bool IsInInbox(RowIndex row, PoolId pool) const;
  // Drops what it can of the emptiest segment that the user does not use for such blocks. Returns
  // the bytes that were dropped, in all pools together; 0 when nothing can go.
  Bytes EvacuateSegment(SlotUser user, PoolId pool, Bytes block_bytes);
  // An inbox whose writer got slots in it last and asks for more.
  bool WriterIsAt(const SlotAllocator::SegmentUse& segment) const;
  // The same of an inbox with at most so many slots in use; false when nothing can go.
  bool EvacuateInbox(TenantId tenant, PoolId pool, size_t used_max);
  Bytes DropSegment(PoolId pool, SegmentIndex segment);

  // --- inboxes
  // ----------------------------------------------------------------------------------------------
  wire::ResidencyWord WordOf(CopyRef slot) const;
  std::optional<TenantId> TenantOf(ShmClientId client) const;
  // The use of the segment that the word means, if it is the one of now and the tenant's.
  absl::StatusOr<SlotAllocator::SegmentUse> FindUse(TenantId tenant,
                                                    wire::ResidencyWord word) const;
  // The inbox that the client was given for writing. NOT_FOUND, FAILED_PRECONDITION: see
  // Engine::SegmentSealed.
  absl::StatusOr<SlotAllocator::InboxUse> FindGranted(ShmClientId client,
                                                      wire::ResidencyWord word) const;
  // A block with this copy alone, for whoever checks it.
  ReadTarget TargetOf(RowIndex row, PlaneIndex plane, CopyRef copy) const;
  // FAILED_PRECONDITION while others could not read what was written to the slot.
  absl::Status CheckSealed(CopyRef slot) const;
  // It gets no more slots, whatever becomes of its process.
  void EndWriter(ShmClientId client);

  // --- chunks
  // -----------------------------------------------------------------------------------------------
  void Log(RowIndex row, EventKind kind, PlaneIndex plane = {}, PoolId pool = {});
  // After blocks of a row were committed: makes it visible when nothing required is missing.
  CommitOutcome Publish(RowIndex row, bool any_new);
  // Takes a droppable chunk out, with every copy of every block. Returns their bytes.
  Bytes DropChunk(RowIndex row, EventKind kind);
  // Hides the chunk and its descendants, and frees what nobody holds. Returns how many were hidden.
  uint32_t HideSubtree(RowIndex root);
  // After a pin, child or move of a hidden row went away: frees it, and then its ancestors, if
  // nothing holds them.
  void FreeIfUnheld(RowIndex row);
  void UnpinRow(RowIndex row);
  Bytes RemoveCopies(RowIndex row);
  // One copy turned out bad: drops it, and notes when it was the last.
  void DropBadCopy(RowIndex row, PlaneIndex plane, CopyRef copy);

  // --- time
  // -------------------------------------------------------------------------------------------------
  // All that a tick does, once it has asked for completions.
  void Work(absl::Time now);
  void SweepSessions(absl::Time now);
  void SweepLeases(absl::Time now);
  void SweepIncomplete(absl::Time now);
  // Its planes are complete, or it is gone.
  bool Settled(const IncompleteChunk& chunk) const;
  void KeepRoom();
  // What is free in the pool, or waits for readers, will do for reservations until the next tick.
  bool HasRoomAhead(TenantId tenant, PoolId pool) const;
  void ShrinkToBudget(PoolId pool);
  void FinishMoves();  // those in `completions`
  void StartMoves(absl::Time now);
  // Ideas that empty a segment of each pool over its budget, as chunks that others hang on cannot
  // be dropped, and inboxes whose segments moves want.
  void PlanEvacuations(size_t ideas_max);
  // False where demotions have to make the room that moves into `from` wanted.
  bool PlanInbox(TenantId tenant, PoolId from, PoolId to, size_t ideas_max);
  // Ideas for what is in the segment and not on its way. Returns how many slots have an owner.
  uint32_t EmptySegment(PoolId from, SegmentIndex segment, PoolId to, size_t ideas_max);
  // None: there is no such inbox; `later` is set where there is one that cannot be emptied now.
  std::optional<SegmentIndex> FindInboxToEmpty(TenantId tenant, PoolId pool, bool& later) const;
  // Its slots hold blocks that can be moved, or wait for readers.
  bool CanBeEmptied(PoolId pool, SegmentIndex segment) const;
  // The plane whose best copy is in the slot, looked for behind `plane` first.
  bool FindBest(RowIndex row, CopyRef slot, size_t& plane) const;
  // Starts the ideas [first, end) that share row, source and target pool.
  void StartRun(size_t first, size_t end);

  EngineLimits limits;
  std::vector<TenantOptions> tenants;
  std::vector<std::unique_ptr<MemoryPool>> pools;
  std::vector<std::unique_ptr<SlotAllocator>> allocators;
  std::unique_ptr<PlacementPolicy> policy;
  std::unique_ptr<CopyEngine> copies;

  std::unique_ptr<EngineShare> share;  // null: nothing is shared; `blocks` tells it what changes
  BlockCatalog blocks;
  SlotQuarantine quarantine;
  std::deque<RegisteredSpec> specs;  // by model id; addresses stay
  OwnedList all_sessions;
  OwnedTable<Session> sessions;
  OwnedTable<Lease> leases;
  std::vector<TenantUse> use;              // by tenant
  std::vector<AccessClock> access_clocks;  // by tenant
  OwnedTable<Reservation> reservations;
  // By deadline; at most 2 entries for each row of the block table, and 64 more.
  std::deque<IncompleteChunk> incomplete;
  std::vector<EventLog> logs;
  EngineCounters counts;
  std::vector<uint64_t> moved_in_blocks;  // by pool
  std::vector<Bytes> missed;              // by pool and tenant: PoolRoom::missed

  // What moves into a pool did not find while the tenant's inboxes may have it.
  struct InboxRoom {
    Bytes wanted;  // since the last plan
    Bytes block_bytes;
    // The inbox that is being emptied, one at a time, and its blocks at the last plan.
    std::optional<SegmentIndex> emptying;
    uint32_t incarnation = 0;
    uint32_t left = 0;
    uint32_t stalled_ticks = 0;
    uint32_t pause_ticks = 0;  // until the next search
    bool later = false;        // the last search found an inbox, but not for now
  };
  std::vector<InboxRoom> inbox_room;  // by pool and tenant
  uint64_t evacuations_planned = 0;

  // Of a pool that is over its budget: by how much, the least that was in use meanwhile, both
  // without what waits for readers, and for how many ticks neither has become less.
  struct Shrinking {
    Bytes least_in_use;
    Bytes excess;
    uint32_t stalled_ticks = 0;
  };
  std::vector<Shrinking> shrinking;  // by pool

  MoveTable moves;
  ByteBudget move_budget;
  std::optional<absl::Time> last_tick;
  uint32_t session_cursor = 0;
  uint32_t lease_cursor = 0;
  bool moves_wanted = false;
  uint32_t move_looks = 0;  // reclaims that moves of this tick may still ask for

  // Reused between calls so that the usual path does not allocate.
  std::vector<RowIndex> rows_scratch;
  std::vector<CopyRef> slots_scratch;
  std::vector<MoveIdea> ideas;
  std::vector<MoveIdea> run_scratch;
  std::vector<CopyRef> destinations_scratch;
  std::vector<CopyCompletion> completions;  // not dealt with yet
};

}  // namespace kvtier
