// Tenants and what can be observed: isolation, quotas, events, runs. Each rule on its own.
#include "tests/property/engine_rules.h"

namespace kvtier::test_support {
namespace {

class EngineTenants : public EngineRules {
 protected:
  EngineTenants() : EngineRules(Two()) {
    other = fixture.Attach(1);
    model = fixture.Register(caller, DenseModel());
    others_model = fixture.Register(other, DenseModel());
  }
  static EngineFixtureOptions Two() {
    EngineFixtureOptions options;
    options.tenants = 2;
    options.segments = {2, 2};
    options.quota_segments = {1, 1};
    return options;
  }
  Caller other;
  ModelId model, others_model;
};

TEST_F(EngineTenants, EqualKeysOfTwoTenantsNeverMeet) {
  const auto keys = Keys(1, 2);
  fixture.PutChain(caller, model, keys);
  EXPECT_NE(model, others_model);
  EXPECT_EQ(fixture.Matched(other, others_model, keys), 0u);
  EXPECT_THAT(engine().Lookup(other, model, keys, std::nullopt, fixture.now()),
              StatusIs(Code::kNotFound));
  ASSERT_OK_AND_ASSIGN(const CommitOutcome outcome,
                       fixture.Put(other, others_model, kNoParent, keys[0]));
  EXPECT_EQ(outcome, CommitOutcome::kCommitted)
      << "not ALREADY_EXISTS: that would tell of the other's chunk";
  const LookupResult own = fixture.Lookup(caller, model, keys);
  const LookupResult others = fixture.Lookup(other, others_model, keys);
  EXPECT_EQ(own.matched, 2u);
  EXPECT_EQ(others.matched, 1u);
  (void)fixture.Read(caller, own.lease, 0, keys[0]);  // each reads its own bytes
  (void)fixture.Read(other, others.lease, 0, keys[0]);
}

// A reserved slot is the caller's to read until it is committed, so nothing of another may be
// there.
TEST(EngineTenantsMemory, ASegmentThatChangesHandsIsZeroed) {
  EngineFixtureOptions options;
  options.tenants = 2;
  options.segments = {1};
  options.policy = PolicyChoice::kStaticSplit;
  EngineFixture fixture(options);
  Engine& engine = fixture.engine();
  const Caller anna = fixture.Attach(0);
  const Caller bert = fixture.Attach(1);
  const ModelId annas = fixture.Register(anna, DenseModel());
  const ModelId berts = fixture.Register(bert, DenseModel());
  const auto keys = Keys(1, 4);
  fixture.PutChain(anna, annas, keys);  // fills the segment
  ASSERT_THAT(engine.Reserve(bert, Chunks(berts), fixture.now()),
              StatusIs(Code::kResourceExhausted));
  ASSERT_THAT(engine.Forget(anna, annas, keys), IsOk());
  fixture.Advance(absl::Milliseconds(5));
  ASSERT_OK_AND_ASSIGN(const ReservationId reserved,
                       engine.Reserve(bert, Chunks(berts, 4), fixture.now()));
  for (uint32_t chunk = 0; chunk < 4; ++chunk) {
    for (int plane = 0; plane < 4; ++plane) {
      ASSERT_OK_AND_ASSIGN(const WriteTarget target,
                           engine.Target(bert, reserved, chunk, Plane(plane)));
      EXPECT_TRUE(std::all_of(target.address, target.address + target.bytes.count(),
                              [](std::byte byte) { return byte == std::byte{0}; }))
          << "chunk " << chunk << " plane " << plane;
    }
  }
}

TEST_F(EngineTenants, ATenantCannotUseForgetOrListWhatIsAnothers) {
  const auto keys = Keys(1, 2);
  fixture.PutChain(caller, model, keys);
  const LookupResult held = fixture.Lookup(caller, model, keys);
  ASSERT_OK_AND_ASSIGN(const ReservationId reserved,
                       engine().Reserve(caller, Chunks(model), fixture.now()));
  EXPECT_THAT(engine().Forget(other, model, keys), StatusIs(Code::kNotFound));
  ASSERT_OK_AND_ASSIGN(const uint32_t forgotten, engine().Forget(other, others_model, keys));
  EXPECT_EQ(forgotten, 0u);
  EXPECT_THAT(engine().Prefetch(other, model, keys), StatusIs(Code::kNotFound));
  EXPECT_THAT(engine().Release(other, held.lease), StatusIs(Code::kNotFound));
  EXPECT_THAT(engine().Abort(other, reserved), StatusIs(Code::kNotFound));
  EXPECT_THAT(engine().Target(other, reserved, 0, Plane(0)), StatusIs(Code::kNotFound));
  EXPECT_THAT(engine().Reserve(other, Chunks(others_model, 1, keys[0]), fixture.now()),
              StatusIs(Code::kFailedPrecondition));
  EXPECT_THAT(engine().Detach({other.tenant, caller.session}), StatusIs(Code::kNotFound));
  EXPECT_THAT(engine().Scope(other, model), StatusIs(Code::kNotFound));
  EXPECT_EQ(engine().FindModel(TenantId(1), model), nullptr);
  uint64_t cursor = 0;
  EXPECT_THAT(engine().ListChunks(TenantId(1), cursor, 100), IsEmpty());
  EXPECT_THAT(fixture.Events(1), IsEmpty());
  EXPECT_EQ(engine().Totals(TenantId(1)).chunks, 0u);
  EXPECT_EQ(fixture.Matched(caller, model, keys), 2u);
}

TEST_F(EngineTenants, AFullTenantEvictsItsOwnAndStaysWithinItsQuota) {
  const auto keys = Keys(1, 3);
  fixture.PutChain(other, others_model, keys);
  for (uint64_t number = 100; number < 130; ++number) {
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(number)), IsOk());
    fixture.Advance(absl::Milliseconds(5));
    for (const PoolStatus& pool : engine().Pools()) {
      for (const PoolStatus::Tenant& tenant : pool.tenants) EXPECT_LE(tenant.used, tenant.quota);
    }
  }
  EXPECT_GT(engine().counters().dropped_chunks, 10u);
  EXPECT_EQ(fixture.Matched(other, others_model, keys), 3u);
  EXPECT_THAT(KindsOf(fixture.Events(1)), ::testing::Each(::testing::Ne(EventKind::kDropped)));
  // More than the quota can never be had, though the pools have room.
  EXPECT_THAT(engine().Reserve(caller, Chunks(model, 9), fixture.now()),
              StatusIs(Code::kResourceExhausted));
}

// --- the event log and placement
// ------------------------------------------------------------------------------

TEST(EventLogTest, ReadingResumesAndAGapShows) {
  EventLog log(4);
  std::vector<Event> events;
  EXPECT_EQ(log.last_sequence(), 0u);
  EXPECT_EQ(log.first_sequence(), 1u);
  log.Read(0, 10, events);
  EXPECT_THAT(events, IsEmpty());
  for (uint64_t i = 1; i <= 3; ++i)
    log.Append({.kind = EventKind::kCommitted,
                .key = NumberedKey(i),
                .model = {},
                .plane = {},
                .pool = {}});
  log.Read(1, 1, events);
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].sequence, 2u);
  EXPECT_EQ(events[0].key, NumberedKey(2));
  for (uint64_t i = 4; i <= 9; ++i)
    log.Append(
        {.kind = EventKind::kDropped, .key = NumberedKey(i), .model = {}, .plane = {}, .pool = {}});
  EXPECT_EQ(log.first_sequence(), 6u) << "a reader behind 5 sees that events are gone";
  EXPECT_EQ(log.last_sequence(), 9u);
  events.clear();
  log.Read(2, 100, events);
  ASSERT_THAT(events, SizeIs(4));
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(events[i].sequence, 6 + i);
    EXPECT_EQ(events[i].key, NumberedKey(6 + i));
  }
  events.clear();
  log.Read(9, 100, events);
  EXPECT_THAT(events, IsEmpty());
}

TEST_F(EngineRules, PlanesOfAChunkLieInNeighbouringRuns) {
  EngineFixtureOptions options;
  options.segments = {64, 64};
  EngineFixture large(options);
  const Caller own = large.Attach();
  const ModelId model = large.Register(own, DenseModel());
  // Room is handed out and given back many times, so that free slots lie scattered.
  wire::ChunkKey parent;
  for (uint64_t number = 1; number <= 600; ++number) {
    const wire::ChunkKey key = NumberedKey(number);
    ASSERT_THAT(large.Put(own, model, number % 5 == 1 ? kNoParent : parent, key), IsOk());
    if (number % 7 == 0) {
      ASSERT_THAT(large.engine().Forget(own, model, {&key, 1}), IsOk());
    }
    parent = number % 7 == 0 ? kNoParent : key;
    large.Advance(absl::Milliseconds(1));
  }
  // Four planes of one size: the mean is four where every chunk's planes lie side by side.
  EXPECT_GE(large.engine().Pools()[0].mean_run_length, 3.5);
}

TEST_F(EngineRules, AnEmptiedSegmentServesAnotherSlotSize) {
  EngineFixtureOptions options = WithPolicy(PolicyChoice::kScripted);
  options.segments = {1, 1};
  EngineFixture tiny(options);
  const Caller own = tiny.Attach();
  const ModelId dense = tiny.Register(own, DenseModel());
  ModelSpec large_spec = DenseModel();
  large_spec.name = "large";
  for (PlaneSpec& plane : large_spec.planes) plane.bytes_per_chunk = KiB(2);
  const ModelId large = tiny.Register(own, large_spec);
  tiny.PutChain(own, dense, Keys(1, 8));
  ASSERT_THAT(tiny.Put(own, large, kNoParent, NumberedKey(50)), IsOk());
  EXPECT_EQ(tiny.Matched(own, large, Keys(50, 1)), 1u);
  EXPECT_EQ(tiny.engine().Pools()[0].segments + tiny.engine().Pools()[1].segments, 2u);
  // And back.
  ASSERT_THAT(tiny.engine().Forget(own, large, Keys(50, 1)), IsOk());
  tiny.Settle();
  EXPECT_THAT(tiny.Put(own, dense, kNoParent, NumberedKey(60)), IsOk());
}

TEST_F(EngineRules, WhatIsReadComesToTheFastPoolAndTheRestSinks) {
  const ModelId model = fixture.Register(caller, DenseModel());
  fixture.PutChain(caller, model, Keys(1, 1));
  // Newer chunks push the first one down.
  for (uint64_t number = 10; number < 40; ++number) {
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(number)), IsOk());
    fixture.Settle();
  }
  const LookupResult held = fixture.Lookup(caller, model, Keys(1, 1));
  ASSERT_EQ(held.matched, 1u);
  for (const ReadTarget& target : fixture.Read(caller, held.lease, 0, NumberedKey(1))) {
    EXPECT_EQ(target.copies[0].pool, PoolId(1));
  }
  fixture.Settle();
  for (const ReadTarget& target : fixture.Read(caller, held.lease, 0, NumberedKey(1))) {
    EXPECT_EQ(target.copies[0].pool, PoolId(0));
  }
}

}  // namespace
}  // namespace kvtier::test_support
