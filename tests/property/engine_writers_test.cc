// Several clients that write in place, and others beside them: nobody's inbox costs the others what
// they stored, and where there are too few segments for all writers they write by stream.
#include <algorithm>
#include <deque>
#include <optional>

#include "tests/property/engine_rules.h"
#include "tests/support/in_place_writer.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {
namespace {

constexpr uint32_t kPerSegment = 4;                  // chunks of four blocks of 512 bytes in 8 KiB
constexpr absl::Duration kLong = absl::Seconds(61);  // nobody counts as a writer after that

EngineFixtureOptions Shared(std::vector<uint32_t> segments) {
  EngineFixtureOptions options;
  options.shared = true;
  options.segments = std::move(segments);
  options.limits.session_timeout = absl::Hours(1);
  return options;
}

bool InPlace(EngineFixture& fixture, InPlaceWriter& writer, ReservationId reservation) {
  return fixture.engine().Describe(writer.caller(), reservation)->in_place;
}

// Whether a reservation of one chunk, which is given back, is in place; none: it is refused.
std::optional<bool> AsksInPlace(EngineFixture& fixture, InPlaceWriter& writer, ModelId model) {
  const auto reservation = writer.Reserve(model);
  if (!reservation.ok()) return std::nullopt;
  const bool in_place = InPlace(fixture, writer, *reservation);
  EXPECT_THAT(fixture.engine().Abort(writer.caller(), *reservation), IsOk());
  return in_place;
}

// Three writers in a pool of so many segments: each puts ten times the pool. A segment of another's
// would have to be emptied whole before anybody else gets room. Returns how many chunks were
// written in place, of each writer's last 100.
std::vector<int> FillTenTimes(EngineFixture& fixture, uint32_t segments) {
  std::vector<InPlaceWriter> writers;
  for (int i = 0; i < 3; ++i) writers.emplace_back(&fixture);
  const ModelId model = fixture.Register(writers[0].caller(), DenseModel());
  Rng rng(TestSeed(7));
  std::vector<int> in_place(3);
  const uint64_t chunks = 3ull * 10 * segments * kPerSegment;
  for (uint64_t put = 1; put <= chunks; ++put) {
    const size_t who = rng.Below(3);
    InPlaceWriter& writer = writers[who];
    const wire::ChunkKey key = NumberedKey(put);
    const auto reservation = writer.Reserve(model);
    EXPECT_THAT(reservation, IsOk()) << "chunk " << put;
    if (!reservation.ok()) break;
    if (put + 300 > chunks) in_place[who] += InPlace(fixture, writer, *reservation) ? 1 : 0;
    const CommitArgs args = writer.Fill(*reservation, model, key);
    EXPECT_THAT(fixture.engine().Commit(writer.caller(), *reservation, args, fixture.now()),
                IsOk());
    EXPECT_EQ(fixture.Matched(writer.caller(), model, {key}), 1u);
    if (rng.OneIn(4)) fixture.Advance(absl::Milliseconds(1));
    fixture.engine().CheckInvariants();
  }
  // What is left is worth the pool's size: nobody's inbox is emptied for every chunk.
  EXPECT_GT(fixture.engine().Totals(TenantId(0)).chunks, segments * kPerSegment * 3 / 4)
      << segments << " segments";
  return in_place;
}

TEST(EngineWriters, AsManyAsHalfOfTheSegmentsWriteInPlace) {
  for (const PolicyChoice policy : {PolicyChoice::kLru, PolicyChoice::kStaticSplit}) {
    EngineFixtureOptions options = Shared({8});
    options.policy = policy;
    EngineFixture fixture(options);
    for (const int in_place : FillTenTimes(fixture, 8)) EXPECT_GT(in_place, 50);
  }
}

TEST(EngineWriters, MoreWriteByStream) {
  for (const PolicyChoice policy : {PolicyChoice::kLru, PolicyChoice::kStaticSplit}) {
    EngineFixtureOptions options = Shared({4});
    options.policy = policy;
    EngineFixture fixture(options);
    EXPECT_THAT(FillTenTimes(fixture, 4), ElementsAre(0, 0, 0));
  }
}

TEST(EngineWriters, WhoHasNotAskedForLongDoesNotCount) {
  EngineFixture fixture(Shared({4}));
  InPlaceWriter first(&fixture), second(&fixture), third(&fixture);
  const ModelId model = fixture.Register(first.caller(), DenseModel());
  EXPECT_EQ(AsksInPlace(fixture, first, model), true);
  EXPECT_EQ(AsksInPlace(fixture, second, model), true);
  EXPECT_EQ(AsksInPlace(fixture, third, model), false);
  EXPECT_EQ(AsksInPlace(fixture, first, model), false) << "none of three does";
  fixture.Advance(kLong / 2);
  EXPECT_EQ(AsksInPlace(fixture, third, model), false);
  fixture.Advance(kLong / 2);
  EXPECT_EQ(AsksInPlace(fixture, third, model), true) << "the first two stopped";
  EXPECT_EQ(AsksInPlace(fixture, first, model), true);
  EXPECT_EQ(AsksInPlace(fixture, second, model), false);
  third.End();
  EXPECT_EQ(AsksInPlace(fixture, second, model), true) << "the third ended";
}

TEST(EngineWriters, EachSlotSizeTakesAnInbox) {
  EngineFixture fixture(Shared({4}));
  InPlaceWriter first(&fixture), second(&fixture);
  const ModelId split = fixture.Register(first.caller(), SplitKvModel());
  EXPECT_EQ(AsksInPlace(fixture, first, split), true);
  EXPECT_EQ(AsksInPlace(fixture, second, split), false);
}

class EngineWritersTakeRoom : public EngineRules {
 protected:
  EngineWritersTakeRoom()
      : EngineRules(Shared({4})), model(fixture.Register(caller, DenseModel())) {}
  bool Has(uint64_t number) { return fixture.Matched(caller, model, {NumberedKey(number)}) == 1; }
  const ModelId model;
};

TEST_F(EngineWritersTakeRoom, ButNotTheInboxThatAnotherIsAt) {
  InPlaceWriter writer(&fixture), late(&fixture);
  ASSERT_THAT(writer.Put(model, kNoParent, NumberedKey(1)), IsOk());
  for (const wire::ChunkKey& key : Keys(2, 3 * kPerSegment))
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, key), IsOk());
  ASSERT_TRUE(Has(1) && Has(2));
  EXPECT_EQ(AsksInPlace(fixture, late, model), true);
  EXPECT_TRUE(Has(1)) << "the only chunk in the emptiest segment";
}

TEST_F(EngineWritersTakeRoom, AnIdleWritersInboxFirst) {
  InPlaceWriter writer(&fixture), late(&fixture);
  ASSERT_THAT(writer.Put(model, kNoParent, NumberedKey(1)), IsOk());
  for (const wire::ChunkKey& key : Keys(2, 3 * kPerSegment - 1))
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, key), IsOk());
  fixture.Advance(kLong);
  const uint64_t before = engine().Totals(std::nullopt).chunks;
  EXPECT_EQ(AsksInPlace(fixture, late, model), true);
  EXPECT_FALSE(Has(1));
  EXPECT_EQ(engine().Totals(std::nullopt).chunks, before - 1) << "nothing else";
}

TEST_F(EngineWritersTakeRoom, NoneIsTakenFromAWriterForAnotherThatHasOne) {
  InPlaceWriter first(&fixture), second(&fixture);
  for (uint64_t number = 1; number <= 2 * kPerSegment; ++number)
    ASSERT_THAT((number % 2 == 0 ? first : second).Put(model, kNoParent, NumberedKey(number)),
                IsOk());
  for (const wire::ChunkKey& key : Keys(100, 2 * kPerSegment))
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, key), IsOk());
  // What is next to go lies in pool segments: the chunk that a writer puts takes its place.
  for (uint64_t number = 1; number <= 2 * kPerSegment; ++number) ASSERT_TRUE(Has(number));
  ASSERT_EQ(engine().counters().dropped_chunks, 0u);
  ASSERT_THAT(first.Put(model, kNoParent, NumberedKey(200)), IsOk());
  EXPECT_EQ(engine().counters().dropped_chunks, 1u);
  for (uint64_t number = 1; number <= 2 * kPerSegment; ++number) EXPECT_TRUE(Has(number));
}

// Nothing can go from half of the segments, and each of the others is the inbox that a writer is
// at. What is next to go lies all over them.
TEST(EngineWriters, WhoHasNothingThereTakesEvenThat) {
  constexpr size_t kWriters = 8;
  EngineFixture fixture(Shared({2 * kWriters}));
  const Caller caller = fixture.Attach();
  const ModelId model = fixture.Register(caller, DenseModel());
  const ModelId latent = fixture.Register(caller, LatentModel());
  std::deque<InPlaceWriter> writers;
  for (size_t i = 0; i < kWriters; ++i) {
    ASSERT_EQ(AsksInPlace(fixture, writers.emplace_back(&fixture), model), true);
  }
  fixture.Settle();  // those slots are free again
  for (uint64_t number = 1; number <= kWriters * kPerSegment; ++number)
    ASSERT_THAT(writers[number % kWriters].Put(model, kNoParent, NumberedKey(number)), IsOk());
  for (uint64_t number = 1000; fixture.engine().Pools()[0].segments < 2 * kWriters; ++number) {
    ASSERT_THAT(fixture.Put(caller, latent, kNoParent, NumberedKey(number)), IsOk());
    fixture.Lookup(caller, latent, {NumberedKey(number)});
  }
  ASSERT_EQ(fixture.engine().counters().dropped_chunks, 0u);
  EXPECT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(100)), IsOk());
  EXPECT_EQ(fixture.Matched(caller, model, {NumberedKey(100)}), 1u);
  EXPECT_LE(fixture.engine().counters().dropped_chunks, 2 * kPerSegment);
}

// Each of four segments is the inbox that a writer is at, and what is next to go lies in those.
TEST(EngineWriters, AStreamBesideThemIsNotRefused) {
  constexpr size_t kWriters = 4, kSegments = 16;
  EngineFixture fixture(Shared({kSegments}));
  const Caller caller = fixture.Attach();
  const ModelId model = fixture.Register(caller, DenseModel());
  std::deque<InPlaceWriter> writers;
  for (size_t i = 0; i < kWriters; ++i) writers.emplace_back(&fixture);
  uint64_t number = 0;
  while (number < kWriters * kPerSegment) {
    InPlaceWriter& writer = writers[number % kWriters];
    ASSERT_THAT(writer.Put(model, kNoParent, NumberedKey(++number)), IsOk());
  }
  while (number < kSegments * kPerSegment)
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(++number)), IsOk());
  uint64_t least = number;
  for (int put = 0; put < 100; ++put) {
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(++number)), IsOk());
    least = std::min(least, fixture.engine().Totals(std::nullopt).chunks);
    fixture.engine().CheckInvariants();
  }
  EXPECT_GE(least, (kSegments - kWriters) * kPerSegment);
}

// Their inboxes are the emptiest segments, and more than are looked at for what can go.
TEST(EngineWriters, ALateOneGetsAnInboxBesideMany) {
  constexpr size_t kWriters = 24, kSegments = 64;
  EngineFixture fixture(Shared({kSegments}));
  const Caller caller = fixture.Attach();
  const ModelId model = fixture.Register(caller, DenseModel());
  std::deque<InPlaceWriter> writers;
  uint64_t number = 0;
  for (size_t i = 0; i < kWriters; ++i)
    ASSERT_THAT(writers.emplace_back(&fixture).Put(model, kNoParent, NumberedKey(++number)),
                IsOk());
  for (size_t i = 0; i < (kSegments - kWriters) * kPerSegment; ++i)
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(++number)), IsOk());
  ASSERT_EQ(fixture.engine().counters().dropped_chunks, 0u);
  EXPECT_EQ(AsksInPlace(fixture, writers.emplace_back(&fixture), model), true);
  EXPECT_LE(fixture.engine().counters().dropped_chunks, kPerSegment);
}

// Processes keep all that is given back. Writers come and go: each would have a segment emptied for
// it, and none of them would bring a fresh one.
TEST(EngineWriters, WhatIsKeptDoesNotCostWhatIsStored) {
  constexpr size_t kSegments = 16;
  EngineFixture fixture(Shared({kSegments}));
  const Caller caller = fixture.Attach();
  const ModelId model = fixture.Register(caller, DenseModel());
  uint64_t number = 0;
  while (number < kSegments * kPerSegment)
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(++number)), IsOk());
  fixture.pool(0).KeepReleased(true);
  uint64_t least = number;
  for (int i = 0; i < 100; ++i) {
    InPlaceWriter writer(&fixture);
    EXPECT_THAT(writer.Put(model, kNoParent, NumberedKey(++number)), IsOk()) << i;
    EXPECT_LE(fixture.pool(0).kept(TenantId(0)) + fixture.engine().Pools()[0].segments,
              2 * kSegments);
    least = std::min(least, fixture.engine().Totals(std::nullopt).chunks);
    fixture.Advance(absl::Milliseconds(1));
    fixture.engine().CheckInvariants();
  }
  EXPECT_GE(fixture.pool(0).kept(TenantId(0)), kSegments / 2) << "they got fresh ones at first";
  EXPECT_GE(least, kSegments * kPerSegment / 2);
  fixture.pool(0).KeepReleased(false);
  InPlaceWriter writer(&fixture);
  EXPECT_EQ(AsksInPlace(fixture, writer, model), true);
}

// Where inboxes could take all of the last pool, nothing would move down, and what was written
// first would stay in the fast pool for good.
TEST(EngineWriters, WhatTheyWroteFirstLeavesTheFastPool) {
  EngineFixture fixture(Shared({2, 4}));
  InPlaceWriter writer(&fixture);
  const ModelId model = fixture.Register(writer.caller(), DenseModel());
  uint64_t number = 0;
  const auto put = [&](uint64_t count) {
    for (uint64_t end = number + count; number < end;)
      ASSERT_THAT(writer.Put(model, kNoParent, NumberedKey(++number)), IsOk());
  };
  // Faster than anything moves.
  put(6 * kPerSegment);
  EXPECT_EQ(fixture.engine().counters().moves_started, 0u);
  for (int round = 0; round < 12; ++round) {
    fixture.Settle();
    put(2);
  }
  EXPECT_EQ(fixture.Matched(writer.caller(), model, {NumberedKey(1)}), 0u);
  fixture.engine().CheckInvariants();
}

// A section keeps everything that is dropped from now on. Chunks in inboxes were next to go, so
// what is free then is in inboxes for the larger part.
TEST(EngineWriters, RoomIsKeptForOthersThanThem) {
  constexpr uint32_t kSegments = 32, kInboxes = 10;
  EngineFixture fixture(Shared({kSegments}));
  const Caller caller = fixture.Attach();
  InPlaceWriter writer(&fixture);
  const ModelId model = fixture.Register(caller, DenseModel());
  const auto in_inboxes = Keys(1, kInboxes * kPerSegment);
  const auto others = Keys(1000, (kSegments - kInboxes) * kPerSegment);
  for (const wire::ChunkKey& key : in_inboxes)
    ASSERT_THAT(writer.Put(model, kNoParent, key), IsOk());
  for (const wire::ChunkKey& key : others)
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, key), IsOk());
  ASSERT_EQ(fixture.engine().Totals(std::nullopt).chunks, kSegments * kPerSegment);
  // One chunk of each inbox is oldest.
  const auto touch = [&](const wire::ChunkKey& key) {
    (void)fixture.Lookup(caller, model, {key}, false);
  };
  for (const wire::ChunkKey& key : others) touch(key);
  for (size_t i = 0; i < in_inboxes.size(); ++i) {
    if (i % kPerSegment != 0) touch(in_inboxes[i]);
  }
  fixture.Settle();
  const SectionId section = fixture.engine().EnterSection();
  EXPECT_THAT(fixture.engine().Reserve(caller, Chunks(model, 4), fixture.now()), IsOk());
  fixture.engine().ExitSection(section);
  EXPECT_GE(fixture.engine().Totals(std::nullopt).chunks, kSegments * kPerSegment * 7 / 8);
  fixture.engine().CheckInvariants();
}

}  // namespace
}  // namespace kvtier::test_support
