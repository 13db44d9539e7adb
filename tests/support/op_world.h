// Where random operations run: an engine on simulated seams, beside it the reference model, and the
// things that operations name by small numbers (sessions, reservations, leases, open sections).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/reference_model.h"
#include "tests/support/shared_readers.h"

namespace kvtier::test_support {

struct OpWorldOptions {
  uint64_t seed = 1;       // of the shape of the world: pools, quotas, limits, models
  uint64_t copy_seed = 1;  // of the order in which copies complete
  PolicyChoice policy = PolicyChoice::kLru;
};

// A chunk that operations name: along one of a few paths through a binary tree, so that prefixes
// are shared.
struct ChunkPath {
  uint8_t path = 0;
  // Keys of the first `depth` chunks; the last one is a partial tail when `tail`.
  std::vector<wire::ChunkKey> Keys(uint32_t depth, bool tail = false) const;
  wire::ChunkKey Key(uint32_t depth, bool tail = false) const;  // depth 0: zero
  static constexpr uint32_t kDepthMax = 6;
};

// Not thread-safe. The first difference between engine and model is kept in failure(); nothing is
// to be performed after it.
class OpWorld {
 public:
  explicit OpWorld(const OpWorldOptions& options);

  // --- what operations name; any number is taken modulo what there is ---
  struct HeldReservation {
    Caller caller;
    ReservationId id{};
    size_t spec = 0;
    std::vector<wire::ChunkKey> keys{};  // planned, by chunk
    wire::ChunkKey parent{};
    bool tail = false;  // the last one is a partial chunk
    uint32_t next = 0;  // chunk to commit next
    bool in_place = false;
    std::optional<ShmClientId> writer{};  // the session's client when it was made
  };
  struct HeldLease {
    Caller caller;
    LeaseId id;
    std::vector<wire::ChunkKey> keys;
  };
  struct HeldTarget {
    const std::byte* address = nullptr;
    std::vector<std::byte> bytes;  // what is there while the section is open
  };
  struct HeldSection {
    SectionId id;
    std::vector<HeldTarget> targets{};
  };

  static constexpr size_t kSessions = 6, kReservations = 6, kLeases = 8, kSections = 3;

  EngineFixture& fixture() { return fixture_; }
  Engine& engine() { return fixture_.engine(); }
  ReferenceModel& model() { return model_; }
  absl::Time now() const { return fixture_.now(); }

  // Session slots belong to the tenant slot % tenants; a slot that never held one has a caller with
  // session 0.
  Caller& session(uint8_t slot) { return sessions_[slot % kSessions]; }
  TenantId TenantOf(uint8_t slot) const {
    return TenantId(static_cast<uint16_t>(slot % kSessions % fixture_.options().tenants));
  }
  size_t spec_count() const { return specs_.size(); }
  const ModelSpec& spec(size_t index) const { return specs_[index]; }
  // The id of a spec for the caller's tenant; an id that was never given when it is not registered.
  ModelId IdOf(TenantId tenant, size_t spec) const;
  void SetIdOf(TenantId tenant, size_t spec, ModelId id) { ids_[{tenant, spec}] = id; }
  std::vector<HeldReservation>& reservations() { return reservations_; }
  std::vector<HeldLease>& leases() { return leases_; }
  std::vector<HeldSection>& sections() { return sections_; }
  SharedReaders& shared() { return shared_; }
  // Where the session's client writes an open block of a reservation in place. Null while the inbox
  // is not sealed: it is not mapped at first with `lazy`, and not at all by a client that is gone.
  std::byte* MapInPlace(const HeldReservation& held, uint32_t chunk, PlaneIndex plane, bool lazy);

  // --- checks ---
  bool failed() const { return !failure_.empty(); }
  const std::string& failure() const { return failure_; }
  template <typename... Parts>
  void Fail(const Parts&... parts) {
    if (failure_.empty()) failure_ = absl::StrCat(parts...);
  }
  // Fails unless the status is among the expected ones; true when it is OK and may be.
  bool Check(const char* what, const absl::Status& status, const Expected& expected);
  // Takes new events of all tenants into the model.
  void TakeEvents();
  // After every operation: limits and the engine against the model; after some also the engine's
  // invariants, and with `deep` these and the bytes of everything that is leased.
  void CheckAll(bool deep);
  // Resolves and compares one leased chunk. Damaged copies that the world made are told to the
  // engine with `report`, else passed over.
  void ReadChunk(const HeldLease& lease, uint32_t chunk, bool report);
  // Flips a bit of one copy of a leased block.
  void DamageCopy(const HeldLease& lease, uint32_t chunk, PlaneIndex plane, uint8_t copy);
  // Ends everything and checks that nothing is left behind.
  void Finish();

  // --- coverage: which outcomes happened ---
  void Saw(const std::string& what) { ++seen_[what]; }
  const std::map<std::string, uint64_t>& seen() const { return seen_; }
  // A digest of every answer and event so far: equal for equal inputs.
  uint64_t digest() const { return digest_; }
  void Mix(uint64_t value);

 private:
  // Where a copy is damaged, and of which block.
  using Place = std::tuple<uint8_t, uint32_t, int64_t>;
  struct Damage {
    uint64_t chunk = 0;
    uint16_t plane = 0;
  };
  static Place PlaceOf(const SlotAddress& slot) {
    return {slot.pool.value(), slot.segment.value(), slot.offset.count()};
  }

  bool Damaged(uint64_t chunk, uint16_t plane) const;
  void CheckPools();
  void CheckCopies();
  // With nothing held, a budget of one segment is reached within a few ticks.
  void LowerBudget(size_t pool);
  void CheckTarget(const HeldLease& lease, uint64_t chunk_id, const ReadTarget& target,
                   bool report);

  static EngineFixtureOptions FixtureOptions(const OpWorldOptions& options);

  EngineFixture fixture_;
  ReferenceModel model_;
  SharedReaders shared_;
  std::vector<ModelSpec> specs_;
  std::map<std::pair<TenantId, size_t>, ModelId> ids_;
  std::vector<Caller> sessions_;
  // Inboxes, each with the number of its use, that were sealed: words without their slot.
  std::set<uint64_t> sealed_;
  std::vector<HeldReservation> reservations_;
  std::vector<HeldLease> leases_;
  std::vector<HeldSection> sections_;
  std::map<Place, Damage> damage_;
  std::vector<uint64_t> events_taken_;
  std::vector<Bytes> held_before_;  // by pool, in segments
  std::map<std::string, uint64_t> seen_;
  std::string failure_;
  uint64_t checks_ = 0;
  uint64_t digest_ = 0;
};

}  // namespace kvtier::test_support
