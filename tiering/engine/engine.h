// The engine: owns the block table, slots, leases and moves, and answers every request about them.
//
// Deterministic: its state is a function of Options and the sequence of calls; it reads no clock,
// starts no thread and opens nothing. Not thread-safe: one owner calls it at a time (the daemon
// holds one lock around it). Calls never block.
//
// Every call by a client names its tenant and session; a session of another tenant is NOT_FOUND, as
// is everything else that belongs to another tenant. Error codes as in
// proto/kvtier/v1/kv_cache.proto.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "proto/wire/chunk_key.h"
#include "proto/wire/client_page.h"
#include "proto/wire/residency_word.h"
#include "tiering/base/bytes.h"
#include "tiering/base/ids.h"
#include "tiering/block/model.h"
#include "tiering/engine/engine_options.h"
#include "tiering/engine/event_log.h"
#include "tiering/memory/memory_pool.h"
#include "tiering/move/copy_engine.h"
#include "tiering/plan/placement_policy.h"

namespace kvtier {

// Who asks.
struct Caller {
  TenantId tenant;
  SessionId session;
};

struct RegisteredModel {
  ModelId id;
  wire::ModelFingerprint fingerprint{};
};

struct ReserveArgs {
  ModelId model;
  wire::ChunkKey parent;  // zero: the first chunk of a prefix
  uint32_t chunk_count = 1;
  std::vector<PlaneIndex> planes;  // empty: all
  // The session's client of shared memory writes the slots through its own mapping. Without such a
  // client, or room in its inboxes, it is a plain reservation all the same: ask Describe.
  bool in_place = false;
};

// What a reservation was made for.
struct ReservationInfo {
  ModelId model;
  uint32_t chunk_count = 0;
  std::vector<PlaneIndex> planes;  // never empty
  bool in_place = false;           // all of its slots are in inboxes
};

// A segment that a client may map.
struct SegmentGrant {
  PoolId pool;
  SegmentIndex segment;
  Bytes slot_bytes;
  bool writable = false;
};

// A slot that a reservation may write to until it is committed or aborted. Writers hold a section
// while they write.
struct WriteTarget {
  SlotAddress slot;
  std::byte* address = nullptr;  // null when the pool has no CPU address
  Bytes bytes;                   // of the plane
};

struct CommitArgs {
  uint32_t chunk = 0;  // within the reservation
  wire::ChunkKey key;
  uint32_t token_count = 0;
  std::vector<PlaneIndex> planes;   // empty: all reserved ones
  std::vector<uint64_t> checksums;  // one per plane, same order
  // The parent that the caller's naming implies (tokens or opaque with a parent); checked when set.
  std::optional<wire::ChunkKey> parent;
};

enum class CommitOutcome : uint8_t { kCommitted, kPartial, kAlreadyExists };

struct LookupResult {
  uint32_t matched = 0;
  LeaseId lease;  // zero: none
  absl::Duration lease_ttl;
};

// One readable copy of a block.
struct BlockCopy {
  PoolId pool;
  SlotAddress slot;
  const std::byte* address = nullptr;
};

// A block of a leased chunk, resolved. Valid until its section ends.
struct ReadTarget {
  uint32_t chunk = 0;  // within the lease
  PlaneIndex plane;
  RowIndex row = kNoRow;
  Bytes bytes;
  uint64_t checksum = 0;
  uint8_t copy_count = 0;  // 0: a plane that is not there
  BlockCopy copies[2];     // best first
};

struct PlaneReads {
  PlaneIndex plane;
  uint32_t steps = 0;
  absl::Span<const uint8_t>
      log_mass;  // per chunk of the lease; see ReportRequest in kv_cache.proto
};

struct PoolStatus {
  PoolDescription description;
  Bytes budget;
  Bytes limit;
  Bytes segment_bytes;
  uint64_t segments = 0;
  Bytes used;     // slots handed out
  Bytes retired;  // waiting for sections to end
  double mean_run_length = 0;
  uint64_t moved_in_blocks = 0;  // copies that moves made here
  struct Tenant {
    Bytes quota;
    Bytes used;
    Bytes kept;  // given back, and still had by processes outside
  };
  std::vector<Tenant> tenants;
};

struct EngineTotals {
  uint64_t sessions = 0, leases = 0, reservations = 0, chunks = 0, blocks = 0, models = 0;
  uint64_t moves_in_flight = 0;
  // Chunks that clients find in shared memory, and how many there may be; 0 where nothing is
  // shared.
  uint64_t index_entries = 0, index_entries_max = 0;
};

// Monotonic counters; names are the metric names without prefix and suffix.
struct EngineCounters {
  uint64_t lookups = 0, lookup_chunks = 0, hit_chunks = 0;
  uint64_t reserved_chunks = 0, committed_chunks = 0, already_existing_chunks = 0;
  uint64_t dropped_chunks = 0, forgotten_chunks = 0, incomplete_dropped_chunks = 0;
  uint64_t moves_started = 0, moves_done = 0, moves_failed = 0, moved_bytes = 0;
  uint64_t verified_bytes = 0;  // by copies and byte streams
  uint64_t corrupt_copies = 0, lost_blocks = 0;
  uint64_t reservations_refused = 0, sessions_expired = 0, leases_expired = 0;
  uint64_t reported_reads = 0, prefetch_chunks = 0;
  // Shared memory: reports taken from rings, those that named nothing of the tenant's, and those
  // that clients say they dropped; calls refused to clients over the section limit; chunks that are
  // not in an index because their bucket or the memory for rows was full.
  uint64_t shared_reports = 0, shared_reports_invalid = 0, shared_reports_dropped = 0;
  uint64_t section_limit_refusals = 0, index_refusals = 0;
  uint64_t logical_times = 0;  // that sessions brought
  uint64_t section_scans = 0;  // looks at all open sections of one tenant's clients
};

// What one client of shared memory holds.
struct SharedClientStatus {
  ShmClientId client;
  TenantId tenant;
  SessionId session;           // zero once it ended
  uint32_t open_sections = 0;  // at the last Tick
  absl::Duration longest;      // the oldest of them, as seen by Tick
  bool over_limit = false;     // no new leases and reservations for it
};

struct ChunkInfo {
  wire::ChunkKey key, parent_key;
  ModelId model;
  uint32_t token_count = 0, leases = 0;
  bool has_children = false, hidden = false;
  Bytes bytes;
  std::vector<uint64_t> blocks_by_pool;
};

class Engine {
 public:
  // INVALID_ARGUMENT names the option, the number and the limit.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(EngineOptions options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // --- Sessions
  // ---------------------------------------------------------------------------------------------
  // RESOURCE_EXHAUSTED at sessions_max.
  absl::StatusOr<SessionId> Attach(TenantId tenant, absl::Time now);
  absl::Status Heartbeat(Caller caller, absl::Time now);
  // Ends the session: its leases, reservations and incomplete chunks end with it.
  absl::Status Detach(Caller caller);
  // Whether the session is attached; asking is no sign of life.
  bool HasSession(Caller caller) const;
  // How far the session is in a time of its own, from whose beginning `logical` counts: what it and
  // the rest of its tenant access from here on is at this time to the policy. Nothing else goes by
  // it: leases, sessions and sections end by `now`. An older time than the newest changes nothing.
  // INVALID_ARGUMENT: not within 0 to kLogicalTimeMax.
  absl::Status SetLogicalTime(Caller caller, absl::Duration logical, absl::Time now);
  static constexpr absl::Duration kLogicalTimeMax = absl::Hours(300'000);  // 34 years

  // --- Models
  // -----------------------------------------------------------------------------------------------
  // The same fingerprint gives the same id. INVALID_ARGUMENT, RESOURCE_EXHAUSTED at models_max.
  absl::StatusOr<RegisteredModel> RegisterModel(Caller caller, const ModelSpec& spec);
  // What chunk keys of this tenant and model are hashed with.
  absl::StatusOr<wire::KeyScope> Scope(Caller caller, ModelId model) const;
  // Null when unknown or another tenant's. Valid until the engine ends.
  const ModelSpec* FindModel(TenantId tenant, ModelId model) const;

  // --- Writing
  // ----------------------------------------------------------------------------------------------
  // Hands out slots for `chunk_count` chunks and pins the parent. The parent may have planes that
  // are still to come: ranks commit on their own, and nothing shows before its whole prefix does.
  // FAILED_PRECONDITION: the parent is not committed at all, or partial. RESOURCE_EXHAUSTED: no
  // room and nothing of this tenant can be evicted, or the session's client of shared memory is
  // over the section limit.
  absl::StatusOr<ReservationId> Reserve(Caller caller, const ReserveArgs& args, absl::Time now);
  absl::StatusOr<ReservationInfo> Describe(Caller caller, ReservationId reservation) const;
  // FAILED_PRECONDITION: committed already, or the reservation is in place.
  absl::StatusOr<WriteTarget> Target(Caller caller, ReservationId reservation, uint32_t chunk,
                                     PlaneIndex plane) const;
  // Publishes in place, and is a sign of life like every call that takes `now`. Chunks of a
  // reservation are committed in order. On kAlreadyExists the slots are free again. Any error
  // leaves the chunk uncommitted and its slots reserved. A reservation ends by itself with the
  // commit of its last block. FAILED_PRECONDITION, too, for a block in an inbox that is not sealed.
  absl::StatusOr<CommitOutcome> Commit(Caller caller, ReservationId reservation,
                                       const CommitArgs& args, absl::Time now);
  // Ends the reservation; what was not committed is free again.
  absl::Status Abort(Caller caller, ReservationId reservation);

  // --- Reading
  // ----------------------------------------------------------------------------------------------
  // Longest usable prefix of `keys`; with `lease_ttl` (zero: the default) also a lease on it. Each
  // key but the first has to name a child of the chunk before it: a chunk without a parent counts
  // in the first place only, so no chunk counts twice. RESOURCE_EXHAUSTED: leases_max, the tenant's
  // share of leased_chunks_max, or the session's client is over the section limit.
  absl::StatusOr<LookupResult> Lookup(Caller caller, ModelId model,
                                      absl::Span<const wire::ChunkKey> keys,
                                      std::optional<absl::Duration> lease_ttl, absl::Time now);
  // Returns the time that was granted. FAILED_PRECONDITION: the lease ended.
  absl::StatusOr<absl::Duration> Renew(Caller caller, LeaseId lease, absl::Duration ttl,
                                       absl::Time now);
  absl::Status Release(Caller caller, LeaseId lease);
  // Chunks of a lease, and its model.
  absl::StatusOr<uint32_t> LeaseChunks(Caller caller, LeaseId lease) const;
  absl::StatusOr<ModelId> LeaseModel(Caller caller, LeaseId lease) const;
  // Where the blocks of one leased chunk are (`planes` empty: all that are there). Call inside a
  // section; what is resolved stays valid until that section ends.
  absl::Status Resolve(Caller caller, LeaseId lease, uint32_t chunk,
                       absl::Span<const PlaneIndex> planes, std::vector<ReadTarget>& targets) const;
  // The bytes of `target.copies[copy]` did not have its checksum: drops that copy. When it was the
  // last one of a required plane the chunk is hidden until it is committed again.
  void ReportCorrupt(const ReadTarget& target, uint8_t copy);
  // Counts bytes that were verified outside the engine.
  void CountVerified(Bytes bytes);

  // A section protects every slot that is resolved or targeted inside it from reuse, until it ends.
  SectionId EnterSection();
  void ExitSection(SectionId section);

  // --- Shared memory
  // ----------------------------------------------------------------------------------------
  // Bytes of one tenant's index with these limits, of which only what is used is ever touched.
  static Bytes IndexBytes(const EngineLimits& limits, size_t tenants);
  // A process of this session that looks blocks up by itself. `page` is mapped for writing by it,
  // too, and stays until EndShared: what its sections hold is kept even when the session ends.
  // FAILED_PRECONDITION: the engine shares nothing, or the session has such a client already.
  // RESOURCE_EXHAUSTED: the tenant has its share of sessions_max clients whose process is not gone.
  absl::StatusOr<ShmClientId> AttachShared(Caller caller, wire::ClientPage* page);
  // Its process is gone: its sections count no more, and `page` is not touched afterwards.
  void EndShared(ShmClientId client);
  // Names in the index (wire::PackRow) of the lease's chunks, in order; 0 where a chunk is not in
  // it. None when the session has no client of shared memory.
  absl::Status LeaseRows(Caller caller, LeaseId lease, std::vector<uint64_t>& rows) const;
  // Clients whose process is not gone.
  std::vector<SharedClientStatus> SharedClients() const;
  // Where the client writes a reservation that is in place: wire::ResidencyWord bits, chunk-major
  // over its planes; 0 where it is committed. FAILED_PRECONDITION: it is not in place.
  absl::Status ReservationWords(Caller caller, ReservationId reservation,
                                std::vector<uint64_t>& words) const;
  // Whether the client may be given the segment that `word` is in. Nobody gets one for reading
  // before it is sealed (a pool segment: before the caller seals it). For writing it is the
  // client's own inbox, once; the client maps it, and the caller seals it and then calls
  // SegmentSealed. NOT_FOUND: no such client, nothing of its tenant there, or another use of the
  // segment by now. UNAVAILABLE: for reading, and its writer has not mapped it yet, or the client
  // is that writer and nothing is in it: it is kept for it. FAILED_PRECONDITION: for writing, and
  // it is not the client's inbox or was given to it before.
  absl::StatusOr<SegmentGrant> GrantSegment(ShmClientId client, wire::ResidencyWord word,
                                            bool writable);
  // The client did not get what was granted for writing, or did not map it: it may be given to it
  // again. Whatever it maps of it until then is harmless: nobody else ever gets that memory, and
  // nothing in it is committed before it is sealed. Errors: as SegmentSealed.
  absl::Status SegmentReturned(ShmClientId client, wire::ResidencyWord word);
  // What the client was given for writing cannot be mapped so any more. From here on others may
  // read it, and its blocks may be committed. NOT_FOUND: no such client, or no inbox of its tenant
  // or of that use. FAILED_PRECONDITION: it was not given to the client for writing, or is sealed
  // already.
  absl::Status SegmentSealed(ShmClientId client, wire::ResidencyWord word);
  // OK: SegmentSealed was called for what the client was given. Errors: as there.
  absl::Status CheckSealed(ShmClientId client, wire::ResidencyWord word) const;
  // The one copy of a block that `word` names, with the block's checksum, if it is where the word
  // says: NOT_FOUND otherwise. `row` is the chunk's name in the index. Call inside a section.
  absl::StatusOr<ReadTarget> ResolveWord(Caller caller, uint64_t row, PlaneIndex plane,
                                         wire::ResidencyWord word) const;
  // The next copy, of any tenant, that the CPU can read, from `cursor` on (0 at first), and the
  // cursor behind it. False when it found none among the few thousand that one call looks at; the
  // cursor is 0 again at the end of the table. Call inside a section.
  bool NextToScrub(uint64_t& cursor, ReadTarget& target) const;

  // --- Hints
  // ------------------------------------------------------------------------------------------------
  absl::Status Report(Caller caller, LeaseId lease, absl::Span<const PlaneReads> reads,
                      absl::Time now);
  // Returns how many of the chunks are known and were queued.
  absl::StatusOr<uint32_t> Prefetch(Caller caller, ModelId model,
                                    absl::Span<const wire::ChunkKey> keys);
  // Hides the chunks and all their descendants at once; frees them as leases end. Returns how many.
  absl::StatusOr<uint32_t> Forget(Caller caller, ModelId model,
                                  absl::Span<const wire::ChunkKey> keys);

  // --- Time
  // -------------------------------------------------------------------------------------------------
  // Takes completed copies and clients' reports, ends what timed out, frees slots, starts moves.
  // Call every few milliseconds and when a copy completes. Returns whether moves are in flight or
  // wanted.
  bool Tick(absl::Time now);
  // In place of Tick where a run must come out the same however long copies take: while copies are
  // under way it only collects those that are done, then finishes all of them at once, in the order
  // in which they were started, and does what Tick does. Returns whether anything may be left to
  // do: false when no copy is under way, no slot waits for readers, and nothing was moved or
  // dropped.
  bool SettleRound(absl::Time now);

  // --- Observing
  // --------------------------------------------------------------------------------------------
  const EventLog& events(TenantId tenant) const;
  EngineCounters counters() const;
  EngineTotals Totals(std::optional<TenantId> tenant) const;
  std::vector<PoolStatus> Pools() const;
  // Bytes of the engine's own tables (index, rows, blocks, owners, leases), as allocated, and of
  // what it shares, as far as that was ever used.
  Bytes MetadataBytes() const;
  // At most `limit` chunks of the tenant from `cursor` on (0 at first); sets the next cursor, 0 at
  // the end.
  std::vector<ChunkInfo> ListChunks(TenantId tenant, uint64_t& cursor, size_t limit) const;
  // INVALID_ARGUMENT beyond the pool's limit. Returns the former budget. A lower one takes effect
  // as blocks move to the next pool; chunks are dropped where that makes no progress.
  absl::StatusOr<Bytes> SetBudget(PoolId pool, Bytes budget);
  const PlacementPolicy& policy() const;
  // Panics with the broken invariant if a table contradicts another; O(everything), for tests.
  void CheckInvariants() const;

 private:
  struct State;
  explicit Engine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kvtier
