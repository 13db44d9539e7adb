#include "tests/support/block_ops.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/support/block_content.h"
#include "tests/support/test_models.h"
#include "tests/support/writing_ops.h"

namespace kvtier::test_support {
namespace {

struct LookupOp : BlockOp {
  uint8_t slot, spec, path, depth, lease, odd;
  explicit LookupOp(Choices& c)
      : slot(c.Byte()),
        spec(c.Byte()),
        path(c.Byte()),
        depth(c.Byte()),
        lease(c.Byte()),
        odd(c.Byte() % 64) {}
  std::string ToString() const override {
    return absl::StrCat("Lookup slot=", slot, " spec=", spec, " path=", path, " depth=", depth,
                        " lease=", lease, " odd=", odd);
  }
  void Perform(OpWorld& world) const override {
    const Caller caller = ChooseCaller(world, slot);
    const ModelId model =
        odd == 1 ? ModelId(77) : world.IdOf(caller.tenant, spec % world.spec_count());
    std::vector<wire::ChunkKey> keys =
        ChunkPath{path}.Keys(1 + depth % ChunkPath::kDepthMax, depth >= 192);
    if (odd == 2) std::reverse(keys.begin(), keys.end());
    if (odd == 3) keys.erase(keys.begin());
    if (odd == 4) keys.resize(9);
    if (odd == 5) keys.insert(keys.begin(), keys.front());
    const bool with_lease = lease < 200;
    // Default, short, long, longer than the limit.
    static constexpr int kTtlSeconds[] = {0, 1, 90, 100'000};
    const absl::Duration asked = absl::Seconds(kTtlSeconds[lease % 4]);
    const EngineLimits& limits = world.fixture().options().limits;
    const absl::Duration granted =
        asked == absl::ZeroDuration() ? limits.lease_ttl : std::min(asked, limits.lease_ttl_max);

    Expected expected = world.model().LookupExpected(caller, model, keys.size());
    uint32_t matched = 0;
    if (expected.errors.empty()) {
      matched = world.model().Matched(caller.tenant, model, keys);
      if (with_lease && matched > 0 && world.model().LeaseExhausts(caller.tenant, matched)) {
        expected = {.errors = {absl::StatusCode::kResourceExhausted}};
        world.Saw("Lookup without room for its lease");
      }
      if (with_lease && matched > 0 && world.shared().OverLimit(caller)) {
        expected = {.errors = {absl::StatusCode::kResourceExhausted}};
        world.Saw("Lookup over the section limit");
      }
    }
    const auto result = world.engine().Lookup(
        caller, model, keys, with_lease ? std::optional(asked) : std::nullopt, world.now());
    if (world.model().SessionAlive(caller)) world.model().Seen(caller, world.now());
    if (!world.Check("Lookup", result.status(), expected)) return;
    world.Mix(result->matched);
    if (result->matched != matched) {
      return world.Fail("Lookup matched ", result->matched, " chunks, the model ", matched);
    }
    world.Saw(matched == 0 ? "Lookup miss" : matched < keys.size() ? "Lookup part" : "Lookup all");
    if ((result->lease != LeaseId()) != (with_lease && matched > 0)) {
      return world.Fail("Lookup of ", matched, " chunks gives lease ", result->lease.value());
    }
    if (result->lease == LeaseId()) return;
    if (result->lease_ttl != granted) {
      return world.Fail("a lease of ", absl::FormatDuration(asked), " was granted for ",
                        absl::FormatDuration(result->lease_ttl));
    }
    keys.resize(matched);
    world.model().Leased(caller, result->lease, model, keys, world.now() + granted);
    auto& all = world.leases();
    if (all.size() == OpWorld::kLeases) all.erase(all.begin());
    all.push_back({caller, result->lease, keys});
  }
};

// Renew, Release, Report and Resolve of a lease, which may have ended and may be somebody else's.
struct LeaseOp : BlockOp {
  enum class Kind : uint8_t { kRenew, kRelease, kReport, kRead, kDamage };
  Kind kind;
  uint8_t which, chunk, plane, odd;
  LeaseOp(Kind kind_in, Choices& c)
      : kind(kind_in), which(c.Byte()), chunk(c.Byte()), plane(c.Byte()), odd(c.Byte() % 64) {}
  std::string ToString() const override {
    static constexpr const char* kNames[] = {"Renew", "Release", "Report", "Read", "Damage"};
    return absl::StrCat(kNames[static_cast<int>(kind)], " which=", which, " chunk=", chunk,
                        " plane=", plane, " odd=", odd);
  }
  void Perform(OpWorld& world) const override {
    auto& all = world.leases();
    if (all.empty()) return;
    const size_t index = which % all.size();
    OpWorld::HeldLease held = all[index];
    if (odd == 1) held.caller = world.session(plane);
    switch (kind) {
      case Kind::kRenew:
        return Renew(world, held);
      case Kind::kReport:
        return Report(world, held);
      case Kind::kRead:
        return Read(world, held);
      case Kind::kDamage:
        if (world.model().Lease(held.id) != nullptr && odd != 1) {
          const RefLease& lease = *world.model().Lease(held.id);
          const size_t planes = world.model().Model(held.caller.tenant, lease.model)->planes.size();
          world.DamageCopy(held, static_cast<uint32_t>(chunk % lease.chunks.size()),
                           PlaneIndex(static_cast<uint16_t>(plane % planes)), odd);
        }
        return;
      case Kind::kRelease:
        break;
    }
    const Expected expected = world.model().LeaseExpected(held.caller, held.id);
    if (world.Check("Release", world.engine().Release(held.caller, held.id), expected)) {
      world.model().Released(held.id);
      world.Saw("Release");
    }
    if (world.model().Lease(held.id) == nullptr && odd % 4 != 2) {
      all.erase(all.begin() + static_cast<std::ptrdiff_t>(index));
    }
  }

  void Renew(OpWorld& world, const OpWorld::HeldLease& held) const {
    const absl::Duration asked = absl::Seconds(chunk);
    const EngineLimits& limits = world.fixture().options().limits;
    const absl::Duration granted =
        asked == absl::ZeroDuration() ? limits.lease_ttl : std::min(asked, limits.lease_ttl_max);
    const auto result = world.engine().Renew(held.caller, held.id, asked, world.now());
    if (world.model().SessionAlive(held.caller)) world.model().Seen(held.caller, world.now());
    if (!world.Check("Renew", result.status(), world.model().RenewExpected(held.caller, held.id)))
      return;
    if (*result != granted) world.Fail("Renew granted ", absl::FormatDuration(*result));
    world.model().Renewed(held.id, world.now() + granted);
    world.Saw("Renew");
  }

  void Report(OpWorld& world, const OpWorld::HeldLease& held) const {
    Expected expected = world.model().LeaseExpected(held.caller, held.id);
    std::vector<uint8_t> mass(held.keys.size(), chunk);
    PlaneReads reads{.plane = PlaneIndex(0), .steps = 1, .log_mass = {}};
    if (odd == 3) mass.push_back(1);
    if (odd == 5) reads.plane = PlaneIndex(500);
    if (odd == 3 || odd == 5) expected.errors.insert(absl::StatusCode::kInvalidArgument);
    reads.log_mass = mass;
    const absl::Status status =
        world.engine().Report(held.caller, held.id, absl::MakeConstSpan(&reads, 1), world.now());
    if (world.model().SessionAlive(held.caller)) world.model().Seen(held.caller, world.now());
    if (world.Check("Report", status, expected)) world.Saw("Report");
  }

  void Read(OpWorld& world, const OpWorld::HeldLease& held) const {
    const Expected lease = world.model().LeaseExpected(held.caller, held.id);
    Expected expected = lease;
    std::vector<ReadTarget> targets;
    const std::vector<PlaneIndex> planes =
        odd == 3 ? std::vector<PlaneIndex>{PlaneIndex(600)} : std::vector<PlaneIndex>{};
    const auto index =
        static_cast<uint32_t>(odd == 5 ? held.keys.size() : chunk % held.keys.size());
    if (odd == 3 || odd == 5) expected.errors.insert(absl::StatusCode::kInvalidArgument);
    const absl::Status status =
        world.engine().Resolve(held.caller, held.id, index, planes, targets);
    if (!world.Check("Resolve", status, expected)) return;
    world.ReadChunk(held, index, true);
    world.Saw("Read");
  }
};

struct HintOp : BlockOp {
  bool forget;
  uint8_t slot, spec, path, depth, count;
  HintOp(bool forget_in, Choices& c)
      : forget(forget_in),
        slot(c.Byte()),
        spec(c.Byte()),
        path(c.Byte()),
        depth(c.Byte()),
        count(c.Byte()) {}
  std::string ToString() const override {
    return absl::StrCat(forget ? "Forget" : "Prefetch", " slot=", slot, " spec=", spec,
                        " path=", path, " depth=", depth, " count=", count);
  }
  void Perform(OpWorld& world) const override {
    const Caller caller = ChooseCaller(world, slot);
    const ModelId model = world.IdOf(caller.tenant, spec % world.spec_count());
    std::vector<wire::ChunkKey> keys;
    const ChunkPath chunks{path};
    for (uint32_t i = 0; i < 1u + count % 3; ++i) {
      keys.push_back(chunks.Key(1 + (depth + i) % ChunkPath::kDepthMax, count >= 224));
    }
    if (count == 100) keys.resize(9);
    const Expected expected = world.model().LookupExpected(caller, model, keys.size());
    if (!forget) {
      uint32_t visible = 0;
      for (const wire::ChunkKey& key : keys) {
        visible +=
            expected.errors.empty() && world.model().VisibleId(caller.tenant, model, key) != 0;
      }
      const auto accepted = world.engine().Prefetch(caller, model, keys);
      if (!world.Check("Prefetch", accepted.status(), expected)) return;
      if (*accepted != visible)
        world.Fail("Prefetch took ", *accepted, " chunks, the model ", visible);
      if (visible > 0) world.Saw("Prefetch");
      return;
    }
    const auto forgotten = world.engine().Forget(caller, model, keys);
    if (!world.Check("Forget", forgotten.status(), expected)) return;
    const uint32_t right = world.model().Forget(caller.tenant, model, keys);
    if (*forgotten != right) world.Fail("Forget hid ", *forgotten, " chunks, the model ", right);
    if (right > 0) world.Saw("Forget");
  }
};

struct TickOp : BlockOp {
  uint8_t step;
  explicit TickOp(Choices& c) : step(c.Byte()) {}
  std::string ToString() const override { return absl::StrCat("Tick step=", step); }
  void Perform(OpWorld& world) const override {
    static constexpr int kMilliseconds[] = {1, 1, 5, 5, 20, 20, 100, 100, 500, 1000};
    absl::Duration advance = absl::Milliseconds(kMilliseconds[step % 10]);
    if (step >= 248) advance = absl::Seconds(step == 255 ? 61 : step >= 253 ? 31 : 16);
    const EngineCounters before = world.engine().counters();
    const bool busy = world.fixture().Advance(advance);
    const EngineCounters after = world.engine().counters();
    world.Mix(busy ? 1 : 2);
    if (!busy && world.engine().Totals(std::nullopt).moves_in_flight > 0) {
      world.Fail("Tick says that nothing is under way, but moves are in flight");
    }
    world.model().Tick(world.now());
    if (const std::string wrong = world.shared().Ticked(); !wrong.empty()) world.Fail(wrong);
    if (after.shared_reports > before.shared_reports) world.Saw("reports taken from a ring");
    if (after.shared_reports_invalid > before.shared_reports_invalid)
      world.Saw("invalid reports in a ring");
    if (after.sessions_expired > before.sessions_expired) world.Saw("session expired");
    if (after.leases_expired > before.leases_expired) world.Saw("lease expired");
    if (after.moves_failed > before.moves_failed) world.Saw("move failed");
    if (after.moves_done > before.moves_done) world.Saw("move done");
    if (after.corrupt_copies > before.corrupt_copies) world.Saw("corrupt copy found by a move");
    if (after.incomplete_dropped_chunks > before.incomplete_dropped_chunks)
      world.Saw("incomplete dropped");
  }
};

struct SetBudgetOp : BlockOp {
  uint8_t pool, segments;
  explicit SetBudgetOp(Choices& c) : pool(c.Byte()), segments(c.Byte()) {}
  std::string ToString() const override {
    return absl::StrCat("SetBudget pool=", pool, " segments=", segments);
  }
  void Perform(OpWorld& world) const override {
    const auto index = static_cast<uint8_t>(pool % world.fixture().pool_count());
    const PoolStatus before = world.engine().Pools()[index];
    const uint32_t all = world.fixture().options().segments[index];
    // Mostly back to all of it, sometimes beyond the limit.
    const uint32_t wanted = segments == 255 ? all + 1 : segments >= 128 ? all : 1 + segments % all;
    const auto former = world.engine().SetBudget(PoolId(index), before.segment_bytes * wanted);
    Expected expected;
    if (wanted > all) expected.errors.insert(absl::StatusCode::kInvalidArgument);
    if (!world.Check("SetBudget", former.status(), expected)) return;
    if (*former != before.budget)
      world.Fail("SetBudget returns ", former->count(), " as the former budget");
    if (before.segments > wanted) world.Saw("budget lowered below what is held");
  }
};

struct FailCopyOp : BlockOp {
  uint8_t nth, kind;
  explicit FailCopyOp(Choices& c) : nth(c.Byte()), kind(c.Byte()) {}
  std::string ToString() const override {
    return absl::StrCat("FailCopy nth=", nth, " kind=", kind);
  }
  void Perform(OpWorld& world) const override {
    sim::SimCopyEngine& copies = world.fixture().copies();
    if (kind < 128) return copies.FailCopy(nth % 4, absl::UnavailableError("the link is down"));
    if (kind < 192) return copies.DelayCopy(nth % 4, absl::ZeroDuration(), 5);
    copies.set_held(kind >= 224);
  }
};

// Opens a section and resolves a leased chunk in it, or ends the oldest one: until then every byte
// that was resolved must stay as it was.
struct SectionOp : BlockOp {
  uint8_t which, chunk, end;
  explicit SectionOp(Choices& c) : which(c.Byte()), chunk(c.Byte()), end(c.Byte()) {}
  std::string ToString() const override {
    return absl::StrCat("Section which=", which, " chunk=", chunk, " end=", end);
  }
  void Perform(OpWorld& world) const override {
    auto& open = world.sections();
    if (end < 128 || open.size() == OpWorld::kSections) {
      if (open.empty()) return;
      for (const OpWorld::HeldTarget& target : open.front().targets) {
        if (std::memcmp(target.address, target.bytes.data(), target.bytes.size()) != 0) {
          world.Fail("bytes changed that an open section had resolved");
        }
      }
      if (!open.front().targets.empty()) world.Saw("section held bytes");
      world.engine().ExitSection(open.front().id);
      open.erase(open.begin());
      return;
    }
    OpWorld::HeldSection section{.id = world.engine().EnterSection()};
    if (!world.leases().empty()) {
      const OpWorld::HeldLease& held = world.leases()[which % world.leases().size()];
      if (world.model().Lease(held.id) != nullptr) {
        std::vector<ReadTarget> targets;
        const absl::Status status = world.engine().Resolve(
            held.caller, held.id, chunk % static_cast<uint32_t>(held.keys.size()), {}, targets);
        if (!status.ok()) world.Fail("Resolve: ", status.ToString());
        for (const ReadTarget& target : targets) {
          for (uint8_t i = 0; i < target.copy_count; ++i) {
            const std::byte* address = target.copies[i].address;
            section.targets.push_back(
                {address, std::vector<std::byte>(address, address + target.bytes.count())});
          }
        }
      }
    }
    open.push_back(std::move(section));
  }
};

// What clients of shared memory do on their own.
struct SharedOp : BlockOp {
  uint8_t what, which, spec, path, odd;
  explicit SharedOp(Choices& c)
      : what(c.Byte()), which(c.Byte()), spec(c.Byte()), path(c.Byte()), odd(c.Byte()) {}
  std::string ToString() const override {
    return absl::StrCat("Shared what=", what, " which=", which, " spec=", spec, " path=", path,
                        " odd=", odd);
  }
  void Perform(OpWorld& world) const override {
    SharedReaders& shared = world.shared();
    std::string wrong, done;
    if (what < 64) {
      wrong = shared.Attach(world.session(which), done);
    } else if (what < 160) {
      std::vector<wire::ChunkKey> keys = ChunkPath{path}.Keys(ChunkPath::kDepthMax);
      keys.push_back(ChunkPath{path}.Key(1 + odd % ChunkPath::kDepthMax, true));
      const TenantId tenant = world.TenantOf(which);
      const ModelId model = world.IdOf(tenant, spec % world.spec_count());
      wrong = shared.Open(which, model, keys, odd % 4 == 3, done);
    } else if (what < 232) {
      wrong = shared.Leave(which, done);
    } else if (what < 238) {
      shared.Scribble(which, uint64_t{odd} << 8 | path, done);
    } else {
      wrong = shared.End(which, done);
    }
    if (!wrong.empty()) world.Fail(wrong);
    if (!done.empty()) world.Saw(done);
  }
};

}  // namespace

std::unique_ptr<BlockOp> DrawOp(Choices& choices) {
  const uint8_t kind = choices.Byte();
  using Kind = LeaseOp::Kind;
  if (kind < 12) return std::make_unique<AttachOp>(choices);
  if (kind < 14) return std::make_unique<DetachOp>(choices);
  if (kind < 20) return std::make_unique<HeartbeatOp>(choices);
  if (kind < 22) return std::make_unique<RegisterOp>(choices);
  if (kind < 62) return std::make_unique<PutOp>(choices);
  if (kind < 82) return std::make_unique<ReserveOp>(choices);
  if (kind < 116) return std::make_unique<CommitOp>(choices);
  if (kind < 122) return std::make_unique<AbortOp>(choices);
  if (kind < 152) return std::make_unique<LookupOp>(choices);
  if (kind < 155) return std::make_unique<LeaseOp>(Kind::kRenew, choices);
  if (kind < 172) return std::make_unique<LeaseOp>(Kind::kRelease, choices);
  if (kind < 176) return std::make_unique<LeaseOp>(Kind::kReport, choices);
  if (kind < 184) return std::make_unique<LeaseOp>(Kind::kRead, choices);
  if (kind < 190) return std::make_unique<LeaseOp>(Kind::kDamage, choices);
  if (kind < 194) return std::make_unique<HintOp>(false, choices);
  if (kind < 199) return std::make_unique<HintOp>(true, choices);
  if (kind < 226) return std::make_unique<TickOp>(choices);
  if (kind < 236) return std::make_unique<SharedOp>(choices);
  if (kind < 241) return std::make_unique<SetBudgetOp>(choices);
  if (kind < 246) return std::make_unique<FailCopyOp>(choices);
  if (kind < 249) return std::make_unique<SectionOp>(choices);
  return std::make_unique<SharedOp>(choices);
}

std::vector<std::unique_ptr<BlockOp>> DrawOps(Choices& choices, size_t count_max) {
  std::vector<std::unique_ptr<BlockOp>> ops;
  while (ops.size() < count_max && !choices.exhausted()) ops.push_back(DrawOp(choices));
  return ops;
}

size_t RunOps(OpWorld& world, const std::vector<std::unique_ptr<BlockOp>>& ops) {
  constexpr uint8_t kSlots[] = {0, 1, 2};
  for (const uint8_t slot : kSlots) {
    Choices choice(absl::MakeConstSpan(&slot, 1));
    AttachOp(choice).Perform(world);
  }
  for (size_t i = 0; i < ops.size(); ++i) {
    ops[i]->Perform(world);
    if (!world.failed()) world.CheckAll(i % 8 == 7);
    if (world.failed()) return i + 1;
  }
  world.Finish();
  return ops.size();
}

}  // namespace kvtier::test_support
