// What the engine must answer, written down without any cleverness: maps, and a walk over all of
// them for every question. The engine is free only in what it gives up when room runs out and in
// where copies lie; that the model learns from the event log, and refuses what would have been
// illegal.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tiering/engine/engine.h"

namespace kvtier::test_support {

// Which answers are right. A call that has several faults may be refused for any of them.
struct Expected {
  std::set<absl::StatusCode> errors;  // empty: the call must succeed
  bool may_exhaust = false;           // RESOURCE_EXHAUSTED is an answer as well

  bool Allows(const absl::Status& status) const;
  std::string ToString() const;
};

struct RefChunk {
  uint64_t id = 0;
  TenantId tenant;
  ModelId model;
  wire::ChunkKey key;
  uint64_t parent = 0;  // 0: the first of a prefix
  uint32_t token_count = 0;
  std::set<uint16_t> planes{};  // with at least one copy
  bool was_visible = false;
  bool forgotten = false;
  uint32_t leases = 0;  // of readers
  uint32_t pins = 0;    // of reservations that go on from it
  SessionId writer{};   // of an incomplete chunk
  absl::Time incomplete_since{};
};

struct RefReservation {
  Caller caller;
  ModelId model;
  uint64_t parent = 0;
  struct Chunk {
    std::set<uint16_t> reserved;
    std::set<uint16_t> open;  // planes not committed yet
    uint64_t row = 0;         // the chunk that its commits made or found; pinned
  };
  std::vector<Chunk> chunks{};
};

struct RefLease {
  Caller caller;
  ModelId model;
  std::vector<uint64_t> chunks{};
  absl::Time ends;
};

struct RefSession {
  TenantId tenant;
  absl::Time seen;
};

// Not thread-safe. Where a member says "after", it is told what the engine did.
class ReferenceModel {
 public:
  ReferenceModel(const EngineLimits& limits, uint16_t tenants)
      : limits_(limits), tenants_(tenants) {}

  // --- sessions and models ---
  Expected AttachExpected(TenantId tenant) const;
  void Attached(Caller caller, absl::Time now);
  bool SessionAlive(Caller caller) const;
  Expected SessionExpected(Caller caller) const;  // NOT_FOUND or OK
  void Seen(Caller caller, absl::Time now);
  void Detached(SessionId session);
  void Registered(TenantId tenant, ModelId model, const ModelSpec& spec);
  const ModelSpec* Model(TenantId tenant, ModelId model) const;

  // --- writing ---
  Expected ReserveExpected(Caller caller, const ReserveArgs& args) const;
  // Keeps the parent from being dropped while the engine looks for room.
  void PinParent(Caller caller, const ReserveArgs& args);
  void UnpinParent(Caller caller, const ReserveArgs& args);
  void Reserved(Caller caller, ReservationId id,
                const ReserveArgs& args);  // after; the parent is pinned
  Expected ReservationExpected(Caller caller, ReservationId id) const;
  // `moves_in_flight`: a forgotten chunk and those before it keep their rows until its move ends,
  // which this model does not know.
  Expected CommitExpected(Caller caller, ReservationId id, const CommitArgs& args,
                          uint64_t moves_in_flight) const;
  // The outcome of a commit that is expected to succeed; applies it.
  CommitOutcome Committed(Caller caller, ReservationId id, const CommitArgs& args, absl::Time now);
  void Aborted(ReservationId id);

  // --- reading ---
  uint32_t Matched(TenantId tenant, ModelId model, absl::Span<const wire::ChunkKey> keys) const;
  Expected LookupExpected(Caller caller, ModelId model, size_t keys) const;
  // Whether a lease of so many chunks more is one too many, or too long.
  bool LeaseExhausts(TenantId tenant, uint32_t chunks) const;
  void Leased(Caller caller, LeaseId id, ModelId model, absl::Span<const wire::ChunkKey> keys,
              absl::Time ends);
  Expected LeaseExpected(Caller caller, LeaseId id) const;
  Expected RenewExpected(Caller caller, LeaseId id) const;
  void Renewed(LeaseId id, absl::Time ends);
  void Released(LeaseId id);
  const RefLease* Lease(LeaseId id) const;
  const RefReservation* Reservation(ReservationId id) const;
  const RefChunk& Chunk(uint64_t id) const { return chunks_.at(id); }
  bool HasChunk(uint64_t id) const { return chunks_.contains(id); }

  // --- hints ---
  // Applies it; the number the engine must return.
  uint32_t Forget(TenantId tenant, ModelId model, absl::Span<const wire::ChunkKey> keys);

  // --- time and freedom ---
  void Tick(absl::Time now);
  // A block of a forgotten chunk lost its last copy, which no event tells; no effect on others.
  void LostSilently(uint64_t chunk, uint16_t plane);
  // What the event log says. Returns what was illegal about it, or an empty string. `damaged` tells
  // whether some copy of a block lost its bytes.
  std::string OnEvent(TenantId tenant, const Event& event,
                      const std::function<bool(uint64_t chunk, uint16_t plane)>& damaged);
  // Around the events of one operation. Chunks that were begun and never visible, and that nobody
  // holds, may go without an event when room is made: those that the engine no longer lists are
  // dropped.
  void BeginEvents(const Engine& engine);
  void EndEvents(std::optional<TenantId> tenant = std::nullopt);
  // Events that OnEvent must have seen by now; empty when it has.
  std::string MissingEvents();

  // --- all of it ---
  uint64_t VisibleId(TenantId tenant, ModelId model, const wire::ChunkKey& key) const;
  bool Visible(const RefChunk& chunk) const;
  // Was visible, until a required plane lost its last copy.
  bool IsLost(TenantId tenant, ModelId model, const wire::ChunkKey& key) const;
  // Compares everything that the engine shows; returns the differences.
  std::string Compare(const Engine& engine);

  const std::map<LeaseId, RefLease>& leases() const { return leases_; }
  const std::map<SessionId, RefSession>& sessions() const { return sessions_; }
  const std::map<uint64_t, RefChunk>& chunks() const { return chunks_; }

 private:
  using KeyName = std::pair<std::pair<TenantId, ModelId>, wire::ChunkKey>;

  RefChunk* Find(TenantId tenant, ModelId model, const wire::ChunkKey& key);
  const RefChunk* Find(TenantId tenant, ModelId model, const wire::ChunkKey& key) const;
  RefChunk* FindForgotten(TenantId tenant, ModelId model, const wire::ChunkKey& key);
  bool HasChildren(uint64_t id) const;
  // Frees what was forgotten and nobody holds any more, of one tenant or of all.
  void Collect(std::optional<TenantId> tenant = std::nullopt);
  void Remove(uint64_t id);
  void Hide(uint64_t id, uint32_t& count);
  void HideIncomplete(const std::function<bool(const RefChunk&)>& which);
  bool CanContinue(const RefChunk& chunk) const;
  std::string CompareChunks(const Engine& engine, TenantId tenant) const;

  EngineLimits limits_;
  // What one tenant may have of a limit that all share.
  uint64_t Share(uint64_t limit) const { return limit < tenants_ ? 1 : limit / tenants_; }
  size_t Chunks(TenantId tenant) const;

  uint16_t tenants_;
  std::map<SessionId, RefSession> sessions_;
  std::map<std::pair<TenantId, ModelId>, ModelSpec> models_;
  std::map<uint64_t, RefChunk> chunks_;  // by a number of our own
  std::map<KeyName, uint64_t> by_key_;   // what was not forgotten
  std::map<ReservationId, RefReservation> reservations_;
  std::map<LeaseId, RefLease> leases_;
  std::multiset<std::pair<EventKind, KeyName>> expected_events_;
  uint64_t incomplete_dropped_ = 0;  // by the engine's count
  bool silent_drops_ = false;        // since the last Compare
  std::set<KeyName> listed_;         // by the engine, at BeginEvents
  uint64_t next_chunk_ = 1;
};

}  // namespace kvtier::test_support
