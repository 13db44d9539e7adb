// What a lookup may count and a lease may hold: each chunk once and in its place, window planes
// behind a partial tail, and a bound on leased chunks that every tenant has its share of. Also what
// bounds the memory for blocks, and which calls show that a session lives.
#include "tests/property/engine_rules.h"

namespace kvtier::test_support {
namespace {

TEST_F(EngineRules, AChunkWithoutAParentCountsInTheFirstPlaceOnly) {
  const ModelId model = fixture.Register(caller, DenseModel());
  const auto chain = Keys(1, 2);
  fixture.PutChain(caller, model, chain);
  ASSERT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(50)), IsOk());
  const std::vector<wire::ChunkKey> repeated(100, chain[0]);
  const LookupResult found = fixture.Lookup(caller, model, repeated);
  EXPECT_EQ(found.matched, 1u);
  ASSERT_OK_AND_ASSIGN(const uint32_t leased, engine().LeaseChunks(caller, found.lease));
  EXPECT_EQ(leased, 1u);
  const auto matched = [&](const std::vector<wire::ChunkKey>& keys) {
    return fixture.Matched(caller, model, keys);
  };
  EXPECT_EQ(matched({chain[0], NumberedKey(50)}), 1u);
  EXPECT_EQ(matched({chain[0], chain[1], chain[0]}), 2u);
  EXPECT_EQ(matched({chain[0], chain[1], chain[1]}), 2u);
  EXPECT_EQ(matched({chain[1], chain[0]}), 1u) << "any chunk may be the first";
}

TEST_F(EngineRules, EveryTenantHasItsShareOfLeasedChunks) {
  EngineFixtureOptions options;
  options.tenants = 2;
  options.limits.leased_chunks_max = 9;  // four each
  EngineFixture shared(options);
  const Caller first = shared.Attach(0);
  const Caller second = shared.Attach(1);
  const auto keys = Keys(1, 3);
  const ModelId model = shared.Register(first, DenseModel());
  shared.PutChain(first, model, keys);
  const ModelId other = shared.Register(second, DenseModel());
  shared.PutChain(second, other, keys);
  const auto lease = [&](size_t count) {
    return shared.engine().Lookup(first, model, absl::MakeSpan(keys).subspan(0, count),
                                  absl::ZeroDuration(), shared.now());
  };
  ASSERT_OK_AND_ASSIGN(const LookupResult held, lease(3));
  EXPECT_THAT(lease(2),
              StatusIs(Code::kResourceExhausted,
                       AllOf(HasSubstr("\"tenant-0\" has 3 chunks leased and asks for 2 more"),
                             HasSubstr("the limit is 4"))));
  EXPECT_EQ(shared.Matched(first, model, keys), 3u) << "without a lease nothing is held";
  EXPECT_THAT(lease(1), IsOk()) << "up to the limit";
  EXPECT_NE(shared.Lookup(second, other, keys).lease, LeaseId()) << "the other tenant's own share";
  // What is released, and what times out, may be leased again.
  ASSERT_THAT(shared.engine().Release(first, held.lease), IsOk());
  EXPECT_THAT(lease(3), IsOk());
  EXPECT_THAT(lease(1), StatusIs(Code::kResourceExhausted));
  for (int i = 0; i < 5; ++i) {
    ASSERT_THAT(shared.engine().Heartbeat(first, shared.now()), IsOk());
    shared.Advance(absl::Seconds(15));
  }
  EXPECT_THAT(lease(3), IsOk());
  shared.engine().CheckInvariants();
}

TEST_F(EngineRules, AWindowBehindAPartialTailReachesFurtherBack) {
  const ModelId model = fixture.Register(caller, RecurrentModel());
  const auto keys = Keys(1, 3);
  const std::vector<PlaneIndex> all = {Plane(0), Plane(1), Plane(2), Plane(3)};
  const std::vector<PlaneIndex> without_window = {Plane(0), Plane(1), Plane(2)};
  // The window has 8 tokens. The tail's single one leaves 7, and those lie in two chunks of 4.
  ASSERT_THAT(fixture.Put(caller, model, kNoParent, keys[0], without_window), IsOk());
  ASSERT_THAT(fixture.Put(caller, model, keys[0], keys[1], all), IsOk());
  ASSERT_THAT(fixture.Put(caller, model, keys[1], keys[2], all, 1), IsOk());
  EXPECT_EQ(fixture.Matched(caller, model, keys), 0u);
  ASSERT_THAT(fixture.Put(caller, model, kNoParent, keys[0], {Plane(3)}), IsOk());
  EXPECT_EQ(fixture.Matched(caller, model, keys), 3u);
  // Behind a full chunk two are enough.
  const auto full = Keys(11, 3);
  ASSERT_THAT(fixture.Put(caller, model, kNoParent, full[0], without_window), IsOk());
  ASSERT_THAT(fixture.Put(caller, model, full[0], full[1], all), IsOk());
  ASSERT_THAT(fixture.Put(caller, model, full[1], full[2], all), IsOk());
  EXPECT_EQ(fixture.Matched(caller, model, full), 3u);
}

TEST_F(EngineRules, MemoryForBlocksIsBoundedAndOldChunksMakeRoom) {
  EngineFixtureOptions options;
  options.limits.blocks_max = 8192;
  options.segment_bytes = KiB(512);
  options.with_bytes = false;
  EngineFixture small(options);
  const Caller own = small.Attach();
  ModelSpec spec = DenseModel();
  for (PlaneSpec& plane : spec.planes) plane.bytes_per_chunk = Bytes(64);
  const ModelId model = small.Register(own, spec);
  constexpr uint64_t kChunks = 8192 / 4;
  for (uint64_t i = 1; i <= kChunks + 10; ++i) {
    ASSERT_THAT(small.Put(own, model, kNoParent, NumberedKey(i)), IsOk()) << i;
  }
  EXPECT_EQ(small.engine().Totals(std::nullopt).chunks, kChunks);
  EXPECT_EQ(small.engine().counters().dropped_chunks, 10u);
  small.engine().CheckInvariants();
}

TEST_F(EngineRules, ACommitIsASignOfLife) {
  const ModelId model = fixture.Register(caller, DenseModel());
  ASSERT_OK_AND_ASSIGN(const ReservationId id,
                       engine().Reserve(caller, Chunks(model, 4), fixture.now()));
  // Without one for 30 seconds the session would end.
  for (uint32_t chunk = 0; chunk < 4; ++chunk) {
    fixture.Advance(absl::Seconds(20));
    const CommitArgs args = fixture.Fill(caller, id, chunk, model, NumberedKey(1 + chunk), {});
    ASSERT_THAT(engine().Commit(caller, id, args, fixture.now()), IsOk());
  }
  EXPECT_EQ(fixture.Matched(caller, model, Keys(1, 4)), 4u);
}

TEST_F(EngineRules, LimitsOnBlocksAndLeasedChunksAreInRange) {
  const auto create = [](auto change) {
    EngineOptions options = MakeEngineOptions(EngineFixtureOptions());
    change(options.limits);
    return Engine::Create(std::move(options)).status();
  };
  EXPECT_THAT(create([](EngineLimits& limits) { limits.blocks_max = 8191; }),
              StatusIs(Code::kInvalidArgument, HasSubstr("blocks_max is 8191; 8192 to")));
  EXPECT_THAT(create([](EngineLimits& limits) { limits.blocks_max = 1ull << 32; }),
              StatusIs(Code::kInvalidArgument, HasSubstr("to 4294967294")));
  EXPECT_THAT(create([](EngineLimits& limits) { limits.leased_chunks_max = 0; }),
              StatusIs(Code::kInvalidArgument, HasSubstr("leased_chunks_max is 0; 1 to")));
}

}  // namespace
}  // namespace kvtier::test_support
