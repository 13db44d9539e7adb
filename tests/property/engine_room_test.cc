// How room is made: only from the tenant's own chunks, not for what cannot fit, past chunks that
// have lost their copies or keep them elsewhere, and while slots wait for readers. Each rule on its
// own.
#include "tests/property/engine_rules.h"

namespace kvtier::test_support {
namespace {

class EngineRoom : public ::testing::Test {
 protected:
  static size_t Dropped(EngineFixture& fixture, uint16_t tenant = 0) {
    size_t dropped = 0;
    for (const Event& event : fixture.Events(tenant)) dropped += event.kind == EventKind::kDropped;
    return dropped;
  }
  static ModelSpec OnePlane(const std::string& name, Bytes bytes) {
    ModelSpec spec = DenseModel();
    spec.name = name;
    spec.planes.resize(1);
    spec.planes[0].bytes_per_chunk = bytes;
    return spec;
  }
};

TEST_F(EngineRoom, AReservationThatCannotFitDropsNothing) {
  EngineFixture fixture;
  const Caller caller = fixture.Attach();
  const ModelId model = fixture.Register(caller, DenseModel());
  const auto keys = Keys(1, 10);
  fixture.PutChain(caller, model, keys);
  EXPECT_THAT(fixture.engine().Reserve(caller, Chunks(model, 5000), fixture.now()),
              StatusIs(Code::kResourceExhausted, HasSubstr("5000 chunks")));
  EXPECT_EQ(fixture.Matched(caller, model, keys), 10u);
  EXPECT_EQ(Dropped(fixture), 0u);
}

// What the last pool keeps free for the next reservations does not grow with it.
TEST_F(EngineRoom, TheLastPoolKeepsASixteenthFreeButAtMostSixteenSegments) {
  for (const auto& [segments, chunks] : {std::pair(64, 4 * (64 - 4)), {1024, 4 * (1024 - 16)}}) {
    EngineFixtureOptions options;
    options.segments = {static_cast<uint32_t>(segments)};
    EngineFixture fixture(options);
    const Caller caller = fixture.Attach();
    const ModelId model = fixture.Register(caller, DenseModel());
    for (int number = 0; number < 4 * segments; ++number) {
      ASSERT_THAT(
          fixture.Put(caller, model, kNoParent, NumberedKey(1 + static_cast<uint64_t>(number))),
          IsOk());
    }
    fixture.Settle();
    EXPECT_EQ(fixture.engine().Totals(std::nullopt).chunks, static_cast<uint64_t>(chunks));
  }
}

// One chunk of four in each segment is in use, so that no segment can be emptied for another slot
// size: trying may cost some chunks, but not all that a tenant has.
TEST_F(EngineRoom, WhatIsDroppedInVainIsBounded) {
  EngineFixtureOptions options;
  options.policy = PolicyChoice::kStaticSplit;
  options.segments = {64};
  EngineFixture fixture(options);
  const Caller caller = fixture.Attach();
  const ModelId model = fixture.Register(caller, DenseModel());
  const ModelId large_model =
      fixture.Register(caller, OnePlane("as large as a segment", options.segment_bytes));
  // Four chunks of four blocks of 512 bytes fill a segment of 8 KiB.
  for (uint64_t number = 0; number < 4 * 64; ++number) {
    const wire::ChunkKey key = NumberedKey(1 + number);
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, key), IsOk());
    if (number % 4 == 0) (void)fixture.Lookup(caller, model, {key});
  }
  ASSERT_EQ(Dropped(fixture), 0u);
  EXPECT_THAT(fixture.engine().Reserve(caller, Chunks(large_model), fixture.now()),
              StatusIs(Code::kResourceExhausted, HasSubstr("what may be evicted for them now")));
  EXPECT_GT(Dropped(fixture), 0u);
  EXPECT_LT(Dropped(fixture), 40u) << "of 192 that could go";
}

// A chunk's blocks are of several sizes in several pools: dropping one for the slow pool can make
// the very room that is needed in the fast one.
TEST_F(EngineRoom, RoomIsTakenInWhateverPoolItWasMade) {
  EngineFixtureOptions options;
  options.segments = {1, 1};
  EngineFixture fixture(options);
  const Caller caller = fixture.Attach();
  ModelSpec spec = DenseModel();
  spec.name = "small and large";
  spec.planes.resize(2);
  spec.planes[1].bytes_per_chunk = Bytes(options.segment_bytes.count() / 2);
  const ModelId both = fixture.Register(caller, spec);
  spec.name = "small";
  spec.planes.resize(1);
  const ModelId small = fixture.Register(caller, spec);
  // The fast segment holds 16 small blocks, the slow one two large ones.
  for (uint64_t number = 1; number <= 2; ++number)
    ASSERT_THAT(fixture.Put(caller, both, kNoParent, NumberedKey(number)), IsOk());
  for (uint64_t number = 3; number <= 16; ++number)
    ASSERT_THAT(fixture.Put(caller, small, kNoParent, NumberedKey(number)), IsOk());
  ASSERT_EQ(Dropped(fixture), 0u);
  ASSERT_THAT(fixture.Put(caller, small, kNoParent, NumberedKey(17)), IsOk());
  EXPECT_EQ(Dropped(fixture), 1u);
  EXPECT_EQ(fixture.Matched(caller, both, {NumberedKey(1)}), 0u);
  EXPECT_EQ(fixture.Matched(caller, both, {NumberedKey(2)}), 1u);
}

TEST_F(EngineRoom, ALoweredBudgetMovesDownWhatTheNextPoolHasRoomFor) {
  EngineFixtureOptions options;
  options.segments = {8, 16};
  EngineFixture fixture(options);
  Engine& engine = fixture.engine();
  const Caller caller = fixture.Attach();
  const ModelId model = fixture.Register(caller, DenseModel());
  // A segment holds four of these chunks.
  std::vector<wire::ChunkKey> keys;
  for (uint64_t number = 1; number <= 24; ++number) {
    keys.push_back(NumberedKey(number));
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, keys.back()), IsOk());
  }
  ASSERT_THAT(engine.SetBudget(PoolId(0), options.segment_bytes * 2), IsOk());
  for (int tick = 0; tick < 200; ++tick) fixture.Advance(absl::Milliseconds(5));
  EXPECT_LE(engine.Pools()[0].segments, 2u);
  EXPECT_EQ(Dropped(fixture), 0u);
  // Nothing can take what the last pool gives up.
  ASSERT_THAT(engine.SetBudget(PoolId(1), options.segment_bytes), IsOk());
  for (int tick = 0; tick < 200; ++tick) fixture.Advance(absl::Milliseconds(5));
  EXPECT_LE(engine.Pools()[1].segments, 1u);
  EXPECT_GE(Dropped(fixture), 24u - 3 * 4);
}

TEST_F(EngineRoom, ARefusalSaysWhyThePoolCannotGrow) {
  EngineFixture fixture;
  const Caller caller = fixture.Attach();
  const ModelId model = fixture.Register(caller, DenseModel());
  for (size_t pool = 0; pool < 2; ++pool)
    fixture.pool(pool).FailAdds(100, absl::ResourceExhaustedError("the machine is full"));
  EXPECT_THAT(fixture.engine().Reserve(caller, Chunks(model), fixture.now()),
              StatusIs(Code::kResourceExhausted, HasSubstr("the machine is full")));
}

// Moving a small block down is not worth the large ones that fill a slow segment.
TEST_F(EngineRoom, ADemotionDropsNothingThatDoesNotMakeItsRoom) {
  EngineFixtureOptions options;
  options.segments = {1, 1};
  EngineFixture fixture(options);
  const Caller caller = fixture.Attach();
  const ModelId small = fixture.Register(caller, OnePlane("small", Bytes(512)));
  const ModelId large =
      fixture.Register(caller, OnePlane("large", Bytes(options.segment_bytes.count() / 2)));
  ASSERT_THAT(fixture.Put(caller, small, kNoParent, NumberedKey(1)), IsOk());
  for (uint64_t number = 101; number <= 102; ++number)
    ASSERT_THAT(fixture.Put(caller, large, kNoParent, NumberedKey(number)), IsOk());
  for (uint64_t number = 2; number <= 16; ++number)
    ASSERT_THAT(fixture.Put(caller, small, kNoParent, NumberedKey(number)), IsOk());
  // The fast segment is full, so the policy wants small blocks in the slow one, which is not full.
  ASSERT_THAT(fixture.engine().Forget(caller, large, Keys(102, 1)), IsOk());
  for (int tick = 0; tick < 100; ++tick) fixture.Advance(absl::Milliseconds(5));
  EXPECT_EQ(Dropped(fixture), 0u);
  EXPECT_EQ(fixture.Matched(caller, large, {NumberedKey(101)}), 1u);
}

// A tenant's slots that wait for a reader have no owner any more, even when the row of the chunk
// that was in them belongs to another tenant by now.
TEST_F(EngineRoom, RetiredSlotsNameNobodysChunks) {
  EngineFixtureOptions options;
  options.tenants = 2;
  options.segments = {2};
  options.quota_segments = {1};
  options.policy = PolicyChoice::kStaticSplit;
  EngineFixture fixture(options);
  Engine& engine = fixture.engine();
  const Caller anna = fixture.Attach(0);
  const Caller bert = fixture.Attach(1);
  const ModelId annas = fixture.Register(anna, DenseModel());
  const ModelId berts = fixture.Register(bert, DenseModel());
  const ModelId berts_large =
      fixture.Register(bert, OnePlane("as large as a segment", options.segment_bytes));
  const auto keys = Keys(1, 2);
  fixture.PutChain(bert, berts, keys);
  const SectionId section = engine.EnterSection();
  ASSERT_THAT(engine.Forget(bert, berts, keys), IsOk());
  // Anna's chunks get the rows that Bert's had.
  const auto own = Keys(100, 2);
  fixture.PutChain(anna, annas, own);
  // Bert's segment would have to be emptied for this.
  EXPECT_THAT(engine.Reserve(bert, Chunks(berts_large), fixture.now()),
              StatusIs(Code::kResourceExhausted));
  EXPECT_EQ(Dropped(fixture, 0), 0u) << "Anna's chunks were dropped for Bert";
  EXPECT_EQ(fixture.Matched(anna, annas, own), 2u);
  engine.ExitSection(section);
  EXPECT_THAT(engine.Reserve(bert, Chunks(berts_large), fixture.now()), IsOk());
  engine.CheckInvariants();
}

TEST_F(EngineRoom, AnothersRetiredSlotsDoNotStopEviction) {
  EngineFixtureOptions options;
  options.tenants = 2;
  options.segments = {8};
  options.policy = PolicyChoice::kStaticSplit;
  options.quota_segments = {4};
  EngineFixture fixture(options);
  Engine& engine = fixture.engine();
  const Caller anna = fixture.Attach(0);
  const Caller bert = fixture.Attach(1);
  const ModelId annas = fixture.Register(anna, DenseModel());
  const ModelId berts = fixture.Register(bert, DenseModel());
  for (uint64_t number = 1; Dropped(fixture, 0) == 0; ++number)
    ASSERT_THAT(fixture.Put(anna, annas, kNoParent, NumberedKey(number)), IsOk());
  const auto keys = Keys(5000, 3);
  fixture.PutChain(bert, berts, keys);
  const SectionId reader = engine.EnterSection();
  ASSERT_THAT(engine.Forget(bert, berts, keys), IsOk());
  engine.ExitSection(reader);
  const SectionId section = engine.EnterSection();
  fixture.PutChain(bert, berts, keys);
  ASSERT_THAT(engine.Forget(bert, berts, keys), IsOk());
  // Anna is at her quota. What she drops waits for the reader as well, so this call fails, but it
  // drops what it needs, and the next one finds it.
  const size_t before = Dropped(fixture, 0);
  (void)fixture.Put(anna, annas, kNoParent, NumberedKey(9000));
  EXPECT_GT(Dropped(fixture, 0), before);
  engine.ExitSection(section);
  EXPECT_THAT(fixture.Put(anna, annas, kNoParent, NumberedKey(9001)), IsOk());
}

// A chain whose leaf has lost its only copy: the leaf is in no pool, and nothing above it can be
// dropped before it.
TEST_F(EngineRoom, ALostLeafDoesNotKeepItsPrefix) {
  EngineFixtureOptions options;
  options.segments = {1, 2};
  EngineFixture fixture(options);
  Engine& engine = fixture.engine();
  const Caller caller = fixture.Attach();
  ModelSpec spec = DenseModel();
  spec.planes.resize(1);
  const ModelId model = fixture.Register(caller, spec);
  std::vector<wire::ChunkKey> keys;
  wire::ChunkKey parent;
  while (Dropped(fixture) == 0) {
    const wire::ChunkKey key = NumberedKey(keys.size() + 1);
    if (!fixture.Put(caller, model, parent, key).ok()) break;
    keys.push_back(key);
    parent = key;
  }
  ASSERT_GT(keys.size(), 4u);
  const LookupResult held = fixture.Lookup(caller, model, keys);
  const uint32_t last = held.matched - 1;
  {
    const SectionId section = engine.EnterSection();
    std::vector<ReadTarget> targets;
    ASSERT_THAT(engine.Resolve(caller, held.lease, last, {}, targets), IsOk());
    ASSERT_THAT(targets, SizeIs(1));
    for (uint8_t copy = 0; copy < targets[0].copy_count; ++copy)
      engine.ReportCorrupt(targets[0], copy);
    engine.ExitSection(section);
  }
  ASSERT_THAT(engine.Release(caller, held.lease), IsOk());
  for (uint64_t number = 1000; number < 1000 + 2 * keys.size(); ++number) {
    EXPECT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(number)), IsOk()) << number;
    fixture.Advance(absl::Milliseconds(5));
  }
}

TEST_F(EngineRoom, ABudgetOfZeroIsReachedByMoves) {
  EngineFixtureOptions options;
  options.segments = {2, 16};
  EngineFixture fixture(options);
  const Caller caller = fixture.Attach();
  const ModelId model = fixture.Register(caller, DenseModel());
  const auto keys = Keys(1, 6);
  fixture.PutChain(caller, model, keys);
  const LookupResult held = fixture.Lookup(caller, model, keys);
  ASSERT_EQ(held.matched, 6u);
  ASSERT_THAT(fixture.engine().SetBudget(PoolId(0), Bytes(0)), IsOk());
  fixture.Settle(2000);
  EXPECT_EQ(fixture.engine().Pools()[0].segments, 0u);
  EXPECT_EQ(fixture.Matched(caller, model, keys), 6u);
}

// Three slot sizes: a fast pool of a few segments runs out of slots of one size long before its
// bytes are used. It must not keep the first chunks that came for ever.
TEST_F(EngineRoom, AFastPoolWithoutSlotsOfOneSizeDemotes) {
  EngineFixtureOptions options;
  options.segments = {3, 12};
  EngineFixture fixture(options);
  Engine& engine = fixture.engine();
  const Caller caller = fixture.Attach();
  ModelSpec spec = DenseModel();
  spec.planes.resize(3);
  spec.planes[0].bytes_per_chunk = Bytes(500);
  spec.planes[1].bytes_per_chunk = Bytes(60);
  spec.planes[2].bytes_per_chunk = Bytes(1400);
  const ModelId model = fixture.Register(caller, spec);
  for (uint64_t number = 1; number <= 200; ++number) {
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(number)), IsOk());
    fixture.Advance(absl::Milliseconds(5));
  }
  EXPECT_EQ(fixture.Matched(caller, model, {NumberedKey(1)}), 0u) << "the oldest is still there";
  EXPECT_EQ(fixture.Matched(caller, model, {NumberedKey(200)}), 1u);
  EXPECT_GT(engine.Pools()[1].moved_in_blocks, 50u);
}

// Tables are shared evenly: whatever one tenant does, the other can attach, register, lease,
// reserve and commit.
TEST_F(EngineRoom, NoTenantFillsATableForTheOthers) {
  EngineFixtureOptions options;
  options.tenants = 2;
  options.segments = {8, 8};
  options.quota_segments = {4, 4};
  options.limits.sessions_max = 6;
  options.limits.models_max = 4;
  options.limits.leases_max = 6;
  options.limits.reservations_max = 6;
  options.limits.chunks_max = 8;
  EngineFixture fixture(options);
  Engine& engine = fixture.engine();
  const Caller anna = fixture.Attach(0);
  const ModelId annas = fixture.Register(anna, DenseModel());
  while (engine.Attach(TenantId(0), fixture.now()).ok()) continue;
  EXPECT_EQ(engine.Totals(TenantId(0)).sessions, 3u);
  ModelSpec spec = DenseModel();
  do {
    spec.name += "x";
  } while (engine.RegisterModel(anna, spec).ok());
  EXPECT_EQ(engine.Totals(TenantId(0)).models, 2u);
  std::vector<wire::ChunkKey> chain;
  for (uint64_t number = 1; number <= 20; ++number) {
    if (fixture.Put(anna, annas, kNoParent, NumberedKey(number)).ok())
      chain = {NumberedKey(number)};
  }
  EXPECT_EQ(engine.Totals(TenantId(0)).chunks, 4u);
  while (engine.Lookup(anna, annas, chain, absl::ZeroDuration(), fixture.now()).ok()) continue;
  EXPECT_EQ(engine.Totals(TenantId(0)).leases, 3u);
  while (engine.Reserve(anna, Chunks(annas), fixture.now()).ok()) continue;
  EXPECT_EQ(engine.Totals(TenantId(0)).reservations, 3u);

  const Caller bert = fixture.Attach(1);
  const ModelId berts = fixture.Register(bert, DenseModel());
  const auto keys = Keys(100, 4);
  fixture.PutChain(bert, berts, keys);
  EXPECT_EQ(fixture.Lookup(bert, berts, keys).matched, 4u);
  EXPECT_THAT(engine.Reserve(bert, Chunks(berts), fixture.now()), IsOk());
  engine.CheckInvariants();
}

}  // namespace
}  // namespace kvtier::test_support
