// Operations of sessions and writers; see block_ops.h. Internal to block_ops.cc.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/support/block_content.h"
#include "tests/support/block_ops.h"
#include "tests/support/test_models.h"

namespace kvtier::test_support {

inline const char* OutcomeName(CommitOutcome outcome) {
  switch (outcome) {
    case CommitOutcome::kCommitted:
      return "commit COMMITTED";
    case CommitOutcome::kPartial:
      return "commit PARTIAL";
    case CommitOutcome::kAlreadyExists:
      return "commit ALREADY_EXISTS";
  }
  return "?";
}

// Which planes of a model a writer takes: mostly all, else those of one rank, the required ones, or
// one of them.
inline std::vector<PlaneIndex> ChoosePlanes(const ModelSpec& spec, uint8_t choice) {
  if (choice < 150) return {};
  if (choice < 180) return PlanesOfRank(spec, 0);
  if (choice < 205) return PlanesOfRank(spec, 1);
  if (choice < 230) return RequiredPlanes(spec);
  return {PlaneIndex(static_cast<uint16_t>(choice % spec.planes.size()))};
}

// Mostly a session that lives; else the caller of a slot whatever became of it, or under another
// tenant's name.
inline Caller ChooseCaller(OpWorld& world, uint8_t slot) {
  Caller caller = world.session(slot);
  for (uint8_t next = 1;
       slot < 224 && next < OpWorld::kSessions && !world.model().SessionAlive(caller); ++next) {
    caller = world.session(static_cast<uint8_t>(slot % OpWorld::kSessions + next));
  }
  if (slot >= 240) {
    caller.tenant = TenantId(
        static_cast<uint16_t>((caller.tenant.value() + 1) % world.fixture().options().tenants));
  }
  return caller;
}

struct AttachOp : BlockOp {
  uint8_t slot = 0;
  explicit AttachOp(Choices& c) : slot(c.Byte()) {}
  std::string ToString() const override {
    return absl::StrCat("Attach slot=", slot % OpWorld::kSessions);
  }
  void Perform(OpWorld& world) const override {
    Caller& caller = world.session(slot);
    if (world.model().SessionAlive(caller)) return;
    const auto session = world.engine().Attach(world.TenantOf(slot), world.now());
    if (!world.Check("Attach", session.status(),
                     world.model().AttachExpected(world.TenantOf(slot))))
      return;
    caller = {world.TenantOf(slot), *session};
    world.model().Attached(caller, world.now());
    for (size_t spec = 0; spec < world.spec_count(); ++spec) Register(world, caller, spec);
  }
  static void Register(OpWorld& world, Caller caller, size_t spec) {
    const auto model = world.engine().RegisterModel(caller, world.spec(spec));
    if (!world.Check("RegisterModel", model.status(), world.model().SessionExpected(caller)))
      return;
    const ModelId before = world.IdOf(caller.tenant, spec);
    if (world.model().Model(caller.tenant, before) != nullptr && before != model->id) {
      world.Fail("the same model of a tenant was given two ids");
    }
    world.SetIdOf(caller.tenant, spec, model->id);
    world.model().Registered(caller.tenant, model->id, world.spec(spec));
  }
};

struct RegisterOp : BlockOp {
  uint8_t slot = 0, spec = 0;
  explicit RegisterOp(Choices& c) : slot(c.Byte()), spec(c.Byte()) {}
  std::string ToString() const override {
    return absl::StrCat("Register slot=", slot, " spec=", spec);
  }
  void Perform(OpWorld& world) const override {
    // Under its own tenant only: another tenant's name would register a model nobody else of the
    // test knows.
    AttachOp::Register(world, world.session(slot), spec % world.spec_count());
  }
};

struct DetachOp : BlockOp {
  uint8_t slot = 0;
  explicit DetachOp(Choices& c) : slot(c.Byte()) {}
  std::string ToString() const override { return absl::StrCat("Detach slot=", slot); }
  void Perform(OpWorld& world) const override {
    const Caller caller = ChooseCaller(world, slot);
    const absl::Status status = world.engine().Detach(caller);
    if (!world.Check("Detach", status, world.model().SessionExpected(caller))) return;
    world.model().Detached(caller.session);
    world.Saw("Detach");
  }
};

struct HeartbeatOp : BlockOp {
  uint8_t slot = 0;
  explicit HeartbeatOp(Choices& c) : slot(c.Byte()) {}
  std::string ToString() const override { return absl::StrCat("Heartbeat slot=", slot); }
  void Perform(OpWorld& world) const override {
    const Caller caller = ChooseCaller(world, slot);
    const absl::Status status = world.engine().Heartbeat(caller, world.now());
    if (world.Check("Heartbeat", status, world.model().SessionExpected(caller))) {
      world.model().Seen(caller, world.now());
    }
  }
};

struct ReserveOp : BlockOp {
  uint8_t slot, spec, path, depth, count, planes, odd;
  explicit ReserveOp(Choices& c)
      : slot(c.Byte()),
        spec(c.Byte()),
        path(c.Byte()),
        depth(c.Byte()),
        count(c.Byte()),
        planes(c.Byte()),
        odd(c.Byte() % 64) {}
  std::string ToString() const override {
    return absl::StrCat("Reserve slot=", slot, " spec=", spec, " path=", path, " depth=", depth,
                        " count=", count, " planes=", planes, " odd=", odd);
  }
  void Perform(OpWorld& world) const override { Reserve(world); }

  // True when it made a reservation, which is then the last of world.reservations().
  bool Reserve(OpWorld& world) const {
    const Caller caller = ChooseCaller(world, slot);
    OpWorld::HeldReservation held{.caller = caller, .spec = spec % world.spec_count()};
    const ModelSpec& of = world.spec(held.spec);
    ReserveArgs args;
    args.model = odd == 1 ? ModelId(77) : world.IdOf(caller.tenant, held.spec);
    args.planes = ChoosePlanes(of, planes);
    args.in_place = count % 2 == 1;
    if (odd == 2) args.planes = {PlaneIndex(static_cast<uint16_t>(of.planes.size()))};
    if (odd == 3) args.planes = {PlaneIndex(0), PlaneIndex(0)};
    args.chunk_count = odd == 4 ? 0 : odd == 5 ? 9 : 1 + count % 3;
    const ChunkPath chunks{path};
    // Mostly behind what is there already.
    uint32_t from = depth % ChunkPath::kDepthMax;
    if (depth < 200 && world.model().Model(caller.tenant, args.model) != nullptr) {
      const uint32_t there =
          world.model().Matched(caller.tenant, args.model, chunks.Keys(ChunkPath::kDepthMax - 1));
      from = depth < 160 ? there : from % (there + 1);
    }
    args.parent = held.parent = odd == 6 && from > 0 ? chunks.Key(from, true) : chunks.Key(from);
    held.tail = count >= 192;
    for (uint32_t i = 1; i <= args.chunk_count; ++i) {
      held.keys.push_back(chunks.Key(from + i, held.tail && i == args.chunk_count));
    }
    const Expected expected = world.model().ReserveExpected(caller, args);
    if (expected.errors.empty()) world.model().PinParent(caller, args);
    const auto id = world.engine().Reserve(caller, args, world.now());
    world.TakeEvents();
    if (id.ok() && world.shared().OverLimit(caller)) world.Fail("Reserve over the section limit");
    if (!world.Check("Reserve", id.status(), expected)) {
      if (expected.errors.empty()) world.model().UnpinParent(caller, args);
      if (world.model().SessionAlive(caller)) world.model().Seen(caller, world.now());
      return false;
    }
    world.model().Seen(caller, world.now());
    world.model().Reserved(caller, *id, args);
    held.id = *id;
    auto& all = world.reservations();
    if (all.size() == OpWorld::kReservations) all.erase(all.begin());
    held.in_place = world.engine().Describe(caller, *id)->in_place;
    held.writer = world.shared().ClientOf(caller);
    if (held.in_place && (!args.in_place || !held.writer))
      world.Fail("a reservation is in place that was not to be");
    world.Saw(held.in_place ? "Reserve in place" : "Reserve");
    if (args.in_place && !held.in_place && held.writer) world.Saw("Reserve without room in place");
    all.push_back(std::move(held));
    return true;
  }
};

struct CommitOp : BlockOp {
  uint8_t which, planes, odd;
  CommitOp(uint8_t which_in, uint8_t planes_in, uint8_t odd_in)
      : which(which_in), planes(planes_in), odd(odd_in) {}
  explicit CommitOp(Choices& c) : which(c.Byte()), planes(c.Byte()), odd(c.Byte() % 64) {}
  std::string ToString() const override {
    return absl::StrCat("Commit which=", which, " planes=", planes, " odd=", odd);
  }
  void Perform(OpWorld& world) const override {
    auto& all = world.reservations();
    if (all.empty()) return;
    const size_t index = which % all.size();
    Commit(world, index);
    if (world.model().Reservation(all[index].id) == nullptr && odd % 2 == 0) {
      all.erase(all.begin() + static_cast<std::ptrdiff_t>(index));
    }
  }

  void Commit(OpWorld& world, size_t index) const {
    OpWorld::HeldReservation& held = world.reservations()[index];
    const RefReservation* reservation = world.model().Reservation(held.id);
    const ModelSpec& of = world.spec(held.spec);
    CommitArgs args;
    args.chunk = std::min<uint32_t>(held.next, static_cast<uint32_t>(held.keys.size()) - 1);
    if (odd == 1) args.chunk = static_cast<uint32_t>(held.keys.size());
    if (odd == 3 && held.next > 0) args.chunk = held.next - 1;
    if (odd == 5)
      args.chunk = std::min<uint32_t>(held.next + 1, static_cast<uint32_t>(held.keys.size()) - 1);
    const uint32_t key_index =
        std::min<uint32_t>(args.chunk, static_cast<uint32_t>(held.keys.size()) - 1);
    args.key = held.keys[key_index];
    const bool tail = held.tail && key_index + 1 == held.keys.size();
    args.token_count = tail ? kTestChunkTokens - 1 : kTestChunkTokens;
    if (planes >= 150) args.planes = ChoosePlanes(of, planes);
    // Only what is reserved and still open, mostly: else committing in parts would rarely succeed.
    if (reservation != nullptr && args.chunk < reservation->chunks.size() && odd != 7) {
      const auto& open = reservation->chunks[args.chunk].open;
      std::erase_if(args.planes, [&](PlaneIndex plane) { return !open.contains(plane.value()); });
    }
    // Another chunk's name at this place.
    if (odd == 21) args.key = ChunkPath{static_cast<uint8_t>(planes)}.Key(1 + planes % 6);
    const bool unsealed = Write(world, held, args, odd % 8 == 5);
    if (odd == 9) args.checksums.push_back(1);
    if (odd == 11) args.key = {};
    if (odd == 13) args.token_count = kTestChunkTokens + 1;
    if (odd == 15) args.planes.push_back(PlaneIndex(static_cast<uint16_t>(of.planes.size() + 3)));
    if (odd == 17) args.parent = NumberedKey(1 << 20);
    if (odd % 16 == 4) args.parent = key_index == 0 ? held.parent : held.keys[key_index - 1];
    if (odd == 19) args.token_count = 1;

    Expected expected = world.model().CommitExpected(
        held.caller, held.id, args, world.engine().Totals(std::nullopt).moves_in_flight);
    // A copy under way keeps the row of a forgotten chunk, which the model has let go.
    const EngineTotals totals = world.engine().Totals(std::nullopt);
    expected.may_exhaust |=
        totals.moves_in_flight > 0 && totals.chunks >= world.fixture().options().limits.chunks_max;
    if (unsealed && expected.errors.empty()) {
      expected = {.errors = {absl::StatusCode::kFailedPrecondition}};
      world.Saw("Commit in an inbox that is not sealed");
    } else if (unsealed) {
      expected.errors.insert(absl::StatusCode::kFailedPrecondition);
    }
    const auto outcome = world.engine().Commit(held.caller, held.id, args, world.now());
    if (world.model().SessionAlive(held.caller)) world.model().Seen(held.caller, world.now());
    if (!world.Check("Commit", outcome.status(), expected)) return;
    const bool was_lost = world.model().IsLost(held.caller.tenant,
                                               world.IdOf(held.caller.tenant, held.spec), args.key);
    const CommitOutcome right = world.model().Committed(held.caller, held.id, args, world.now());
    if (*outcome != right)
      world.Fail(OutcomeName(*outcome), ", the model says ", OutcomeName(right));
    world.Saw(OutcomeName(right));
    if (was_lost && right == CommitOutcome::kCommitted) world.Saw("lost chunk committed again");
    if (tail && right == CommitOutcome::kCommitted) world.Saw("commit of a tail");
    world.Mix(static_cast<uint64_t>(*outcome));
    const RefReservation* after = world.model().Reservation(held.id);
    if (after == nullptr || after->chunks[args.chunk].open.empty() || odd % 4 == 2) {
      held.next = args.chunk + 1;
    }
  }

 private:
  // Writes what the chunk's key says into the slots of args.planes, and sets the checksums. True
  // when one of them is in an inbox that is not sealed.
  static bool Write(OpWorld& world, const OpWorld::HeldReservation& held, CommitArgs& args,
                    bool lazy) {
    bool unsealed = false;
    const RefReservation* reservation = world.model().Reservation(held.id);
    const ModelId model = world.IdOf(held.caller.tenant, held.spec);
    const ModelSpec& of = world.spec(held.spec);
    std::vector<PlaneIndex> planes = args.planes;
    if (planes.empty() && reservation != nullptr) {
      for (const uint16_t plane : reservation->chunks[0].reserved) planes.emplace_back(plane);
    }
    const SectionId section = world.engine().EnterSection();
    for (const PlaneIndex plane : planes) {
      if (plane.value() >= of.planes.size()) continue;
      const Bytes bytes = of.planes[plane.value()].bytes_per_chunk;
      const auto content = BlockContent(held.caller.tenant, model, args.key, plane, bytes);
      args.checksums.push_back(ContentChecksum(content));
      const auto target = world.engine().Target(held.caller, held.id, args.chunk, plane);
      const bool open = reservation != nullptr && world.model().SessionAlive(held.caller) &&
                        args.chunk < reservation->chunks.size() &&
                        reservation->chunks[args.chunk].open.contains(plane.value());
      if (open && held.in_place) {
        if (target.ok()) world.Fail("a reservation in place has a target for others");
        std::byte* const address = world.MapInPlace(held, args.chunk, plane, lazy);
        if (address == nullptr) {
          unsealed = true;
        } else {
          std::memcpy(address, content.data(), content.size());
          world.Saw("block written in place");
        }
        continue;
      }
      if (target.ok() != open) {
        world.Fail("Target of plane ", plane.value(), ": ", target.status().ToString(),
                   ", the model says ", open ? "it is open" : "it is not");
        break;
      }
      if (!target.ok()) continue;
      if (target->bytes != bytes || target->address == nullptr) {
        world.Fail("Target of plane ", plane.value(), " has ", target->bytes.count(), " bytes");
        break;
      }
      std::memcpy(target->address, content.data(), content.size());
    }
    world.engine().ExitSection(section);
    return unsealed;
  }
};

// Reserves a chain and commits all of it, so that there is something to look up.
struct PutOp : BlockOp {
  ReserveOp reserve;
  explicit PutOp(Choices& c) : reserve(c) {}
  std::string ToString() const override { return absl::StrCat("Put: ", reserve.ToString()); }
  void Perform(OpWorld& world) const override {
    if (!reserve.Reserve(world)) return;
    const size_t index = world.reservations().size() - 1;
    const size_t chunks = world.reservations()[index].keys.size();
    for (size_t i = 0; i < chunks && !world.failed(); ++i) {
      CommitOp(0, 0, 0).Commit(world, index);
      world.TakeEvents();
    }
    if (world.model().Reservation(world.reservations()[index].id) == nullptr) {
      world.reservations().pop_back();
    }
  }
};

struct AbortOp : BlockOp {
  uint8_t which;
  explicit AbortOp(Choices& c) : which(c.Byte()) {}
  std::string ToString() const override { return absl::StrCat("Abort which=", which); }
  void Perform(OpWorld& world) const override {
    auto& all = world.reservations();
    if (all.empty()) return;
    const auto held = all.begin() + static_cast<std::ptrdiff_t>(which % all.size());
    const Expected expected = world.model().ReservationExpected(held->caller, held->id);
    if (world.Check("Abort", world.engine().Abort(held->caller, held->id), expected)) {
      world.model().Aborted(held->id);
      world.Saw("Abort");
    }
    all.erase(held);
  }
};

}  // namespace kvtier::test_support
