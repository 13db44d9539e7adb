#include "tests/support/op_world.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_join.h"
#include "tests/support/block_content.h"
#include "tests/support/in_place_writer.h"
#include "tests/support/test_models.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {

wire::ChunkKey ChunkPath::Key(uint32_t depth, bool tail) const {
  if (depth == 0) return {};
  const uint32_t root = path & 1;
  const uint32_t turns = (path >> 1) & ((1u << (depth - 1)) - 1);
  // Keys do not name tenant or model on purpose: equal keys of two tenants must not meet.
  return NumberedKey(root | turns << 1 | depth << 8 | (tail ? 1u << 12 : 0));
}

std::vector<wire::ChunkKey> ChunkPath::Keys(uint32_t depth, bool tail) const {
  std::vector<wire::ChunkKey> keys;
  for (uint32_t i = 1; i <= depth; ++i) keys.push_back(Key(i, tail && i == depth));
  return keys;
}

EngineFixtureOptions OpWorld::FixtureOptions(const OpWorldOptions& options) {
  Rng rng(options.seed);
  EngineFixtureOptions fixture;
  fixture.policy = options.policy;
  fixture.copy_seed = options.copy_seed;
  fixture.tenants = static_cast<uint16_t>(1 + rng.Below(3));
  fixture.segment_bytes = rng.OneIn(2) ? KiB(4) : KiB(8);
  const uint32_t small = fixture.segment_bytes == KiB(4) ? 2 : 1;
  fixture.segments = {small * static_cast<uint32_t>(4 + rng.Below(4)),
                      small * static_cast<uint32_t>(5 + rng.Below(8))};
  if (rng.OneIn(2)) {
    for (const uint32_t segments : fixture.segments) {
      fixture.quota_segments.push_back(std::max(1u, segments * 2 / 3));
    }
  }
  fixture.limits.sessions_max = 5;
  fixture.limits.leases_max = 9;
  fixture.limits.leased_chunks_max = 24;
  fixture.limits.reservations_max = 7;
  fixture.limits.chunks_max = 16 + rng.Below(48);
  fixture.limits.chunks_per_call_max = 8;
  fixture.limits.models_max = 24;
  fixture.limits.reserved_bytes_max = KiB(24);
  fixture.limits.moves_in_flight_max = static_cast<uint32_t>(1 + rng.Below(8));
  fixture.limits.retired_share_max = rng.OneIn(2) ? 0.05 : 0.5;
  fixture.limits.events_kept = 256;
  fixture.shared = !rng.OneIn(3);
  return fixture;
}

OpWorld::OpWorld(const OpWorldOptions& options)
    : fixture_(FixtureOptions(options)),
      model_(fixture_.options().limits, fixture_.options().tenants),
      shared_(&fixture_, &model_),
      sessions_(kSessions),
      events_taken_(fixture_.options().tenants),
      held_before_(fixture_.pool_count()) {
  Rng rng(options.seed ^ 0x6d6f64656c73);
  const std::vector<ModelSpec> all = AllTestModels();
  const uint64_t first = rng.Below(all.size());
  specs_.push_back(all[first]);
  if (rng.OneIn(2)) specs_.push_back(all[(first + 1 + rng.Below(all.size() - 1)) % all.size()]);
  for (size_t slot = 0; slot < kSessions; ++slot) {
    sessions_[slot].tenant = TenantOf(static_cast<uint8_t>(slot));
  }
}

ModelId OpWorld::IdOf(TenantId tenant, size_t spec) const {
  const auto found = ids_.find({tenant, spec});
  return found == ids_.end() ? ModelId(999) : found->second;
}

void OpWorld::Mix(uint64_t value) { digest_ = Rng(digest_ ^ value).Next(); }

bool OpWorld::Check(const char* what, const absl::Status& status, const Expected& expected) {
  Mix(static_cast<uint64_t>(status.code()));
  if (!expected.Allows(status)) {
    Fail(what, ": the engine says ", status.ToString(), ", the model ", expected.ToString());
    return false;
  }
  if (!status.ok() && status.message().empty()) Fail(what, ": an error without a message");
  if (!status.ok()) {
    Saw(absl::StrCat(what, " ", absl::StatusCodeToString(status.code())));
  }
  return status.ok();
}

bool OpWorld::Damaged(uint64_t chunk, uint16_t plane) const {
  return std::any_of(damage_.begin(), damage_.end(), [&](const auto& entry) {
    return entry.second.chunk == chunk && entry.second.plane == plane;
  });
}

void OpWorld::TakeEvents() {
  model_.BeginEvents(engine());
  const auto damaged = [this](uint64_t chunk, uint16_t plane) { return Damaged(chunk, plane); };
  for (size_t tenant = 0; tenant < events_taken_.size(); ++tenant) {
    const EventLog& log = engine().events(TenantId(static_cast<uint16_t>(tenant)));
    if (log.first_sequence() > events_taken_[tenant] + 1) {
      Fail("tenant ", tenant, ": events fell out of the log between two operations");
    }
    std::vector<Event> events;
    log.Read(events_taken_[tenant], log.last_sequence(), events);
    for (const Event& event : events) {
      if (event.sequence != ++events_taken_[tenant])
        Fail("tenant ", tenant, ": a sequence has a hole");
      static constexpr const char* kNames[] = {"",          "committed", "dropped",
                                               "forgotten", "moved",     "lost"};
      Saw(absl::StrCat("event ", kNames[static_cast<size_t>(event.kind)]));
      Mix(event.sequence ^ uint64_t{static_cast<uint8_t>(event.kind)} << 56 ^ event.key.low() ^
          uint64_t{event.plane.value()} << 32 ^ uint64_t{event.pool.value()} << 48);
      if (const std::string wrong = model_.OnEvent(TenantId(tenant), event, damaged);
          !wrong.empty()) {
        Fail(wrong);
      }
    }
  }
  model_.EndEvents();
  // A block whose last copy went has no damage any more.
  std::erase_if(damage_, [&](const auto& entry) {
    return !model_.HasChunk(entry.second.chunk) ||
           !model_.Chunk(entry.second.chunk).planes.contains(entry.second.plane);
  });
}

void OpWorld::CheckPools() {
  const std::vector<PoolStatus> pools = engine().Pools();
  if (pools.size() != fixture_.pool_count()) return Fail("Pools() lists ", pools.size(), " pools");
  for (size_t i = 0; i < pools.size(); ++i) {
    const PoolStatus& pool = pools[i];
    const Bytes held = pool.segment_bytes * static_cast<int64_t>(pool.segments);
    // A lowered budget is reached by eviction: until then what is held may only shrink.
    if (held > pool.budget && held > held_before_[i]) {
      Fail("pool ", i, " grew to ", held.count(), " bytes, its budget is ", pool.budget.count());
    }
    held_before_[i] = held;
    if (pool.segments != fixture_.pool(i).segments()) {
      Fail("pool ", i, ": ", pool.segments, " segments are told, the pool has ",
           fixture_.pool(i).segments());
    }
    if (pool.used > held) Fail("pool ", i, ": used ", pool.used.count(), " of ", held.count());
    if (pool.retired > pool.used) Fail("pool ", i, ": more retired than used");
    if (pool.retired > Bytes(0)) Saw("slots retired");
    Bytes used;
    for (size_t tenant = 0; tenant < pool.tenants.size(); ++tenant) {
      used += pool.tenants[tenant].used;
      if (pool.tenants[tenant].used > pool.tenants[tenant].quota) {
        Fail("pool ", i, ": tenant ", tenant, " uses ", pool.tenants[tenant].used.count(),
             " bytes, its quota is ", pool.tenants[tenant].quota.count());
      }
    }
    if (used != pool.used)
      Fail("pool ", i, ": tenants use ", used.count(), " of ", pool.used.count());
    Mix(static_cast<uint64_t>(pool.used.count()));
  }
}

// A copy's source and destination stay allocated until it completes.
void OpWorld::CheckCopies() {
  std::set<Place> destinations;
  for (const CopyRequest& copy : fixture_.copies().InFlight()) {
    for (const SlotAddress& slot : {copy.source, copy.destination}) {
      if (!fixture_.pool(slot.pool.value()).exists(slot.segment)) {
        Fail("a copy is under way in segment ", slot.segment.value(), " of pool ",
             slot.pool.value(), ", which was given back");
      }
    }
    if (!destinations.insert(PlaceOf(copy.destination)).second) Fail("two copies write one slot");
  }
}

void OpWorld::CheckAll(bool deep) {
  TakeEvents();
  if (const std::string missing = model_.MissingEvents(); !missing.empty()) Fail(missing);
  if (failed()) return;
  CheckPools();
  CheckCopies();
  if (const std::string wrong = shared_.CheckHeld(); !wrong.empty()) return Fail(wrong);
  if (deep || checks_++ % 4 == 0) {
    engine().CheckInvariants();
    if (const std::string wrong = shared_.CheckIndex(); !wrong.empty()) return Fail(wrong);
  }
  if (const std::string wrong = model_.Compare(engine()); !wrong.empty()) Fail(wrong);
  for (size_t i = 0; deep && !failed() && i < leases_.size(); ++i) {
    if (model_.Lease(leases_[i].id) == nullptr) continue;
    const size_t chunks = model_.Lease(leases_[i].id)->chunks.size();
    for (uint32_t chunk = 0; chunk < chunks && !failed(); ++chunk)
      ReadChunk(leases_[i], chunk, false);
  }
}

void OpWorld::CheckTarget(const HeldLease& lease, uint64_t chunk_id, const ReadTarget& target,
                          bool report) {
  // Events may have told that blocks of the chunk are lost, but the chunk itself stays while it is
  // leased.
  const RefChunk& chunk = model_.Chunk(chunk_id);
  const ModelSpec& spec = *model_.Model(lease.caller.tenant, chunk.model);
  const uint16_t plane = target.plane.value();
  if (plane >= spec.planes.size()) return Fail("a resolved plane ", plane, " is not the model's");
  if (target.bytes != spec.planes[plane].bytes_per_chunk)
    return Fail("a resolved block has a wrong size");
  if ((target.copy_count > 0) != chunk.planes.contains(plane)) {
    return Fail("plane ", plane, " has ", target.copy_count, " copies; the model ",
                chunk.planes.contains(plane) ? "has it" : "lost it");
  }
  const auto content =
      BlockContent(lease.caller.tenant, chunk.model, chunk.key, target.plane, target.bytes);
  if (target.copy_count > 0 && target.checksum != ContentChecksum(content)) {
    return Fail("plane ", plane, " is resolved with another checksum than was committed");
  }
  if (target.copy_count == 2) Saw("block with two copies");
  std::vector<Place> places;
  for (uint8_t i = 0; i < target.copy_count; ++i) {
    const BlockCopy& copy = target.copies[i];
    places.push_back(PlaceOf(copy.slot));
    Saw(copy.pool == PoolId(0) ? "read from pool 0" : "read from pool 1");
    if (std::memcmp(copy.address, content.data(), content.size()) == 0) continue;
    const auto damage = damage_.find(places.back());
    if (damage == damage_.end() || damage->second.chunk != chunk_id ||
        damage->second.plane != plane) {
      return Fail("chunk ", chunk.key.ToHex(), " plane ", plane, " pool ", copy.pool.value(),
                  " segment ", copy.slot.segment.value(), " offset ", copy.slot.offset.count(),
                  " does not have the committed bytes");
    }
    if (!report) continue;
    const uint64_t lost_before = engine().counters().lost_blocks;
    engine().ReportCorrupt(target, i);
    Saw(engine().counters().lost_blocks > lost_before ? "last copy corrupt"
                                                      : "one of two copies corrupt");
    if ((engine().counters().lost_blocks > lost_before) != (target.copy_count == 1)) {
      return Fail("plane ", plane, " with ", target.copy_count,
                  " copies: one was reported corrupt");
    }
    // A forgotten chunk's loss is nobody's event.
    if (target.copy_count == 1) model_.LostSilently(chunk_id, plane);
    TakeEvents();
    damage_.erase(places.back());
    return;
  }
  // A damaged copy that is no longer there was found by a move.
  std::erase_if(damage_, [&](const auto& entry) {
    return entry.second.chunk == chunk_id && entry.second.plane == plane &&
           std::find(places.begin(), places.end(), entry.first) == places.end();
  });
}

void OpWorld::ReadChunk(const HeldLease& lease, uint32_t chunk, bool report) {
  const uint64_t chunk_id = model_.Lease(lease.id)->chunks[chunk];
  const SectionId section = engine().EnterSection();
  std::vector<ReadTarget> targets;
  const absl::Status status = engine().Resolve(lease.caller, lease.id, chunk, {}, targets);
  if (!status.ok()) Fail("Resolve of a leased chunk: ", status.ToString());
  std::set<uint16_t> planes;
  for (const ReadTarget& target : targets) {
    if (target.copy_count > 0) planes.insert(target.plane.value());
  }
  // A move may have found the last copy of a forgotten chunk's block damaged.
  const std::set<uint16_t> before = model_.Chunk(chunk_id).planes;
  for (const uint16_t plane : before) {
    if (!planes.contains(plane) && Damaged(chunk_id, plane)) model_.LostSilently(chunk_id, plane);
  }
  if (status.ok() && planes != model_.Chunk(chunk_id).planes) {
    Fail("Resolve of chunk ", model_.Chunk(chunk_id).key.ToHex(), " names ", planes.size(),
         " planes that are there, the model has ", model_.Chunk(chunk_id).planes.size());
  }
  for (const ReadTarget& target : targets) {
    if (!failed()) CheckTarget(lease, chunk_id, target, report);
  }
  engine().ExitSection(section);
}

void OpWorld::DamageCopy(const HeldLease& lease, uint32_t chunk, PlaneIndex plane, uint8_t copy) {
  const uint64_t chunk_id = model_.Lease(lease.id)->chunks[chunk];
  std::vector<ReadTarget> targets;
  const PlaneIndex planes[] = {plane};
  const absl::Status status = engine().Resolve(lease.caller, lease.id, chunk, planes, targets);
  if (!status.ok()) return Fail("Resolve: ", status.ToString());
  if (targets.size() != 1 || targets[0].copy_count == 0) return;
  const BlockCopy& place = targets[0].copies[copy % targets[0].copy_count];
  // One damage per place: a second flip of the same bit would repair it.
  if (!damage_.emplace(PlaceOf(place.slot), Damage{chunk_id, plane.value()}).second) return;
  std::byte* bytes = fixture_.pool(place.pool.value()).Address(place.slot.segment);
  bytes += place.slot.offset.count();
  *bytes ^= std::byte{1};
  for (HeldSection& section : sections_) {
    for (HeldTarget& target : section.targets) {
      if (target.address == bytes) target.bytes[0] ^= std::byte{1};
    }
  }
  shared_.Damaged(bytes);
  Saw("copy damaged");
}

std::byte* OpWorld::MapInPlace(const HeldReservation& held, uint32_t chunk, PlaneIndex plane,
                               bool lazy) {
  const auto info = engine().Describe(held.caller, held.id);
  std::vector<uint64_t> words;
  if (!info.ok() || !info->in_place ||
      !engine().ReservationWords(held.caller, held.id, words).ok()) {
    Fail("a reservation in place does not say where");
    return nullptr;
  }
  const auto found = std::find(info->planes.begin(), info->planes.end(), plane);
  const wire::ResidencyWord word(
      words[chunk * info->planes.size() + static_cast<size_t>(found - info->planes.begin())]);
  if (!word.valid()) {
    Fail("an open block of a reservation in place has no word");
    return nullptr;
  }
  const uint64_t use = word.bits() & ~uint64_t{0x3fff};
  const bool writer_lives = held.writer == shared_.ClientOf(held.caller);
  if (!sealed_.contains(use) && (lazy || !writer_lives)) return nullptr;
  const Bytes bytes =
      engine().FindModel(held.caller.tenant, info->model)->planes[plane.value()].bytes_per_chunk;
  std::byte* const written = fixture_.pool(word.pool()).Address(SegmentIndex(word.segment())) +
                             (bytes.count() + 63) / 64 * 64 * word.slot();
  if (!writer_lives) return written;  // it had written before it ended
  const auto address = InPlaceAddress(fixture_, *held.writer, word);
  if (!address.ok() || *address != written)
    Fail("a client's own inbox is refused or elsewhere: ", address.status().ToString());
  if (sealed_.insert(use).second) Saw("inbox mapped and sealed");
  return written;
}

void OpWorld::Finish() {
  for (HeldSection& section : sections_) engine().ExitSection(section.id);
  sections_.clear();
  if (const std::string wrong = shared_.Finish(); !wrong.empty()) return Fail(wrong);
  for (size_t i = 0; i < fixture_.pool_count() && !failed(); ++i) {
    const Bytes limit = engine().Pools()[i].limit;
    if (!engine().SetBudget(PoolId(static_cast<uint8_t>(i)), limit).ok())
      Fail("a budget at its limit is refused");
  }
  // Forget everything that is known, then end every session.
  for (const Caller& caller : sessions_) {
    if (failed() || !model_.SessionAlive(caller)) continue;
    for (size_t spec = 0; spec < specs_.size(); ++spec) {
      const ModelId id = IdOf(caller.tenant, spec);
      if (model_.Model(caller.tenant, id) == nullptr) continue;
      std::vector<wire::ChunkKey> keys;
      for (uint8_t root = 0; root < 2; ++root) {
        keys.push_back(ChunkPath{root}.Key(1));
        keys.push_back(ChunkPath{root}.Key(1, true));
      }
      const auto count = engine().Forget(caller, id, keys);
      if (!Check("Forget", count.status(), {})) return;
      const uint32_t expected = model_.Forget(caller.tenant, id, keys);
      if (*count != expected)
        Fail("Forget at the end hid ", *count, " chunks, the model ", expected);
    }
  }
  CheckAll(true);
  for (const Caller& caller : sessions_) {
    if (failed() || !model_.SessionAlive(caller)) continue;
    Check("Detach", engine().Detach(caller), {});
    model_.Detached(caller.session);
  }
  CheckAll(false);
  if (failed()) return;
  fixture_.copies().set_held(false);
  for (int i = 0; i < 50; ++i) {
    fixture_.Advance(absl::Milliseconds(20));
    model_.Tick(now());
  }
  CheckAll(false);
  const EngineTotals totals = engine().Totals(std::nullopt);
  if (totals.sessions + totals.leases + totals.reservations > 0) {
    Fail("after every session ended there are ", totals.sessions, " sessions, ", totals.leases,
         " leases, ", totals.reservations, " reservations");
  }
  // Tenants without a session at the end keep their chunks; what is used must be theirs.
  if (totals.chunks == 0 && fixture_.Used() > Bytes(0)) {
    Fail("no chunk is left, but ", fixture_.Used().count(), " bytes are in use");
  }
  // Budgets are reached whatever the chunks' order in segments,
  // unless the policy keeps carrying blocks into the pool.
  if (fixture_.options().policy == PolicyChoice::kShuffle) return;
  for (size_t i = 0; i < fixture_.pool_count() && !failed(); ++i) LowerBudget(i);
}

void OpWorld::LowerBudget(size_t index) {
  const PoolId pool(static_cast<uint8_t>(index));
  const Bytes segment = engine().Pools()[index].segment_bytes;
  if (!engine().SetBudget(pool, segment).ok()) return Fail("a budget of one segment is refused");
  for (int tick = 0; tick < 400 && engine().Pools()[index].segments > 1; ++tick) {
    fixture_.Advance(absl::Milliseconds(20));
    model_.Tick(now());
    TakeEvents();
  }
  CheckAll(false);
  if (const PoolStatus after = engine().Pools()[index]; after.segments > 1) {
    std::string chunks;
    for (uint16_t tenant = 0; tenant < fixture_.options().tenants; ++tenant) {
      uint64_t cursor = 0;
      for (const ChunkInfo& info : engine().ListChunks(TenantId(tenant), cursor, 1000)) {
        absl::StrAppend(&chunks, "; tenant ", tenant, " ", info.key.ToHex().substr(0, 4), " after ",
                        info.parent_key.ToHex().substr(0, 4), " leases ", info.leases, " blocks ",
                        absl::StrJoin(info.blocks_by_pool, "+"));
      }
    }
    Fail("pool ", after.description.name, " still has ", after.segments,
         " segments, its budget is one", chunks);
  }
  if (!engine().SetBudget(pool, engine().Pools()[index].limit).ok())
    Fail("a budget at its limit is refused");
}

}  // namespace kvtier::test_support
