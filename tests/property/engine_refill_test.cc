// A fast pool whose segments are inboxes with little in them: moves into it get their segments,
// without taking what a writer is writing to, without moving more than that is worth, and without
// ever putting a block where another writer can reach it. Each rule on its own, then all of them at
// random.
#include <map>
#include <set>
#include <tuple>

#include "tests/property/engine_rules.h"
#include "tests/support/in_place_writer.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {
namespace {

constexpr size_t kPerSegment = 16;  // chunks of four blocks of 512 bytes in 32 KiB
constexpr size_t kWriters = 4;      // and segments of the fast pool
constexpr size_t kBlocks = 4;       // of a chunk
constexpr uint32_t kMovesMax = 8;   // at once
constexpr absl::Duration kIdle = absl::Seconds(6);
constexpr absl::Duration kTick = absl::Milliseconds(5);

EngineFixtureOptions FourSegments() {
  EngineFixtureOptions options;
  options.shared = true;
  options.segment_bytes = KiB(32);
  options.segments = {kWriters, 16};
  options.limits.session_timeout = absl::Hours(1);
  options.limits.moves_in_flight_max = kMovesMax;
  return options;
}

class EngineRefill : public EngineRules {
 protected:
  EngineRefill() : EngineRules(FourSegments()), model(fixture.Register(caller, DenseModel())) {}

  // Each writer's only inbox is one of the fast pool's segments, and a quarter full; the chunks
  // from kBelow on are in the next pool.
  void FillInboxes() {
    ASSERT_OK_AND_ASSIGN(const Bytes whole, engine().SetBudget(PoolId(0), Bytes(0)));
    for (const wire::ChunkKey& key : Keys(kBelow, kPerSegment))
      ASSERT_THAT(fixture.Put(caller, model, kNoParent, key), IsOk());
    fixture.Settle();
    ASSERT_THAT(engine().SetBudget(PoolId(0), whole), IsOk());
    for (size_t i = 0; i < kWriters; ++i) {
      InPlaceWriter& writer = writers.emplace_back(&fixture);
      for (const wire::ChunkKey& key : Keys(1 + i * 100, kPerSegment / 4))
        ASSERT_THAT(writer.Put(model, kNoParent, key), IsOk());
    }
    Ticks(1);
    ASSERT_EQ(InFastPool(1, 400), kWriters * kPerSegment / 4 * kBlocks);
    ASSERT_EQ(InFastPool(kBelow, kPerSegment), 0u);
    ASSERT_EQ(Moves(), 0u);
  }
  // Blocks of the chunks of these numbers.
  uint64_t InFastPool(uint64_t first, size_t count) {
    std::set<std::string> wanted;
    for (const wire::ChunkKey& key : Keys(first, count)) wanted.insert(key.ToHex());
    uint64_t cursor = 0, blocks = 0;
    for (const ChunkInfo& chunk : engine().ListChunks(TenantId(0), cursor, 10'000))
      blocks += wanted.contains(chunk.key.ToHex()) ? chunk.blocks_by_pool[0] : 0;
    return blocks;
  }
  void Prefetch(uint64_t first, size_t count) {
    ASSERT_THAT(engine().Prefetch(caller, model, Keys(first, count)), IsOk());
  }
  void Ticks(int count) {
    for (int i = 0; i < count; ++i) fixture.Advance(kTick);
  }
  uint64_t Moves() { return engine().counters().moves_done; }

  static constexpr uint64_t kBelow = 1000;
  ModelId model;
  std::vector<InPlaceWriter> writers;
};

TEST_F(EngineRefill, AnInboxWithLittleInItMakesRoomForAPrefetch) {
  FillInboxes();
  fixture.Advance(kIdle);
  Prefetch(kBelow, 8);
  Ticks(40);
  EXPECT_EQ(InFastPool(kBelow, 8), 8 * kBlocks);
  // One inbox went down, and nothing else moved than what was wanted.
  EXPECT_EQ(InFastPool(1, 400), (kWriters - 1) * kPerSegment / 4 * kBlocks);
  EXPECT_EQ(Moves(), (8 + kPerSegment / 4) * kBlocks);
  EXPECT_EQ(engine().counters().dropped_chunks, 0u);
  // What is left of the segment serves the next ones without any more.
  Prefetch(kBelow + 8, 8);
  Ticks(40);
  EXPECT_EQ(InFastPool(kBelow, 16), 16 * kBlocks);
  EXPECT_EQ(Moves(), (16 + kPerSegment / 4) * kBlocks);
  // Writers go on in place, the one without an inbox in the next pool.
  for (InPlaceWriter& writer : writers) {
    const auto reservation = writer.Reserve(model);
    ASSERT_THAT(reservation, IsOk());
    EXPECT_TRUE(engine().Describe(writer.caller(), *reservation)->in_place);
  }
  engine().CheckInvariants();
}

TEST_F(EngineRefill, ATouchMakesRoomForTheNextOne) {
  FillInboxes();
  fixture.Advance(kIdle);
  (void)fixture.Matched(caller, model, Keys(kBelow, 1));
  Ticks(40);
  (void)fixture.Matched(caller, model, Keys(kBelow, 1));
  Ticks(40);
  EXPECT_EQ(InFastPool(kBelow, 1), kBlocks);
}

TEST_F(EngineRefill, NothingIsTakenFromWritersAtWork) {
  FillInboxes();
  // They wrote lately: nothing moves out for nothing.
  Prefetch(kBelow, 8);
  Ticks(200);
  EXPECT_EQ(InFastPool(1, 400), kWriters * kPerSegment / 4 * kBlocks);
  EXPECT_LE(Moves(), kBlocks) << "what the first try asked of demotion";
  // All have an open reservation there.
  for (InPlaceWriter& writer : writers) ASSERT_THAT(writer.Reserve(model), IsOk());
  fixture.Advance(kIdle);
  const uint64_t before = Moves();
  Prefetch(kBelow, 8);
  Ticks(200);
  EXPECT_EQ(InFastPool(kBelow, 8), 0u);
  EXPECT_EQ(Moves(), before);
}

TEST_F(EngineRefill, AWriterThatGoesOnKeepsItsInbox) {
  FillInboxes();
  fixture.Advance(kIdle);
  fixture.copies().set_held(true);
  Prefetch(kBelow, 8);
  Ticks(3);
  ASSERT_GT(engine().Totals(std::nullopt).moves_in_flight, 0u);
  // Whichever it is that is emptied.
  for (InPlaceWriter& writer : writers) ASSERT_THAT(writer.Reserve(model), IsOk());
  fixture.copies().set_held(false);
  Ticks(200);
  EXPECT_EQ(InFastPool(kBelow, 8), 0u);
  EXPECT_LE(Moves(), kMovesMax) << "what had begun";
  engine().CheckInvariants();
}

TEST_F(EngineRefill, TheSegmentWaitsForReaders) {
  FillInboxes();
  const LookupResult held = fixture.Lookup(caller, model, Keys(1, 1));
  fixture.Advance(kIdle);
  const SectionId section = engine().EnterSection();
  Prefetch(kBelow, 8);
  Ticks(100);
  // One inbox is on its way out, as far as the cap of retired bytes goes, and no second one goes.
  EXPECT_EQ(InFastPool(kBelow, 8), 0u);
  EXPECT_GT(Moves(), 0u);
  EXPECT_LE(Moves(), kPerSegment / 4 * kBlocks);
  engine().ExitSection(section);
  Ticks(40);
  EXPECT_EQ(InFastPool(kBelow, 8), 8 * kBlocks);
  EXPECT_EQ(Moves(), (8 + kPerSegment / 4) * kBlocks);
  EXPECT_EQ(fixture.Read(caller, held.lease, 0, NumberedKey(1)).size(), kBlocks);
}

// More than the eighth that is kept free: the rest follows as demotions make room.
TEST_F(EngineRefill, APrefetchOfHalfThePoolIsDoneWhole) {
  const auto keys = Keys(1, 2 * kWriters * kPerSegment);
  for (const wire::ChunkKey& key : keys) {
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, key), IsOk());
    Ticks(1);
  }
  fixture.Settle();
  constexpr size_t kHalf = kWriters * kPerSegment / 2;
  ASSERT_EQ(InFastPool(1, kHalf), 0u);
  Prefetch(1, kHalf);
  Ticks(200);
  EXPECT_EQ(InFastPool(1, kHalf), kHalf * kBlocks);
}

// A prefetch that finds no slot of its size asks again and again, and what it needs is demoted
// once.
TEST_F(EngineRefill, APrefetchInVainDoesNotDrainThePool) {
  ModelSpec spec = DenseModel();
  spec.name = "large";
  spec.planes.resize(1);
  spec.planes[0].bytes_per_chunk = KiB(16);
  const ModelId large = fixture.Register(caller, spec);
  ASSERT_OK_AND_ASSIGN(const Bytes whole, engine().SetBudget(PoolId(0), Bytes(0)));
  ASSERT_THAT(fixture.Put(caller, large, kNoParent, NumberedKey(kBelow)), IsOk());
  ASSERT_THAT(engine().SetBudget(PoolId(0), whole), IsOk());
  constexpr size_t kSmall = kWriters * kPerSegment;
  // Touched so that the oldest are all over the segments: none is emptied by demoting a few.
  for (const wire::ChunkKey& key : Keys(1, kSmall))
    ASSERT_THAT(fixture.Put(caller, model, kNoParent, key), IsOk());
  for (uint64_t i = 0; i < kSmall; ++i)
    (void)fixture.Matched(caller, model, Keys(1 + i % kWriters * kPerSegment + i / kWriters, 1));
  fixture.Settle();
  const uint64_t before = InFastPool(1, kSmall);
  ASSERT_THAT(engine().Prefetch(caller, large, Keys(kBelow, 1)), IsOk());
  Ticks(300);
  EXPECT_EQ(InFastPool(kBelow, 1), 0u);
  EXPECT_GE(InFastPool(1, kSmall), before - KiB(16) / Bytes(512));
}

// Writers, readers and hints at random. Whatever moves, each chunk keeps its bytes, and no block of
// a writer's is ever in an inbox of another one.
TEST_F(EngineRefill, NoBlockIsEverWhereAnotherWriterCanReachIt) {
  using Segment = std::pair<uint32_t, uint32_t>;
  Rng rng(TestSeed(20261121));
  for (size_t i = 0; i < kWriters; ++i) writers.emplace_back(&fixture);
  std::map<uint64_t, size_t> writer_of;                   // by number of the chunk
  std::map<Segment, std::map<uint32_t, size_t>> inboxes;  // writers by incarnation
  uint64_t last = 0, refilled = 0;
  std::optional<SectionId> section;
  const auto check = [&](uint64_t number) {
    const LookupResult found = fixture.Lookup(caller, model, Keys(number, 1));
    if (found.matched == 0) return;
    for (const ReadTarget& target : fixture.Read(caller, found.lease, 0, NumberedKey(number))) {
      const SlotAddress slot = target.copies[0].slot;
      for (const auto& [incarnation, writer] : inboxes[{slot.pool.value(), slot.segment.value()}]) {
        const CopyRef first(slot.pool, slot.segment, 0);
        const wire::ResidencyWord word(first.bits(), incarnation);
        if (!engine().GrantSegment(writers[0].client(), word, false).ok()) continue;
        ASSERT_EQ(writer_of.at(number), writer) << "chunk " << number << " in another's inbox";
      }
    }
    EXPECT_THAT(engine().Release(caller, found.lease), IsOk());
  };
  for (int step = 0; step < 4000 && !HasFatalFailure(); ++step) {
    const uint64_t known = last == 0 ? 1 : 1 + rng.Below(last);
    const uint64_t action = rng.Below(16);
    if (action < 5) {
      const size_t writer = rng.OneIn(3) ? rng.Below(kWriters) : step / 500 % kWriters;
      const auto reservation = writers[writer].Reserve(model);
      if (!reservation.ok()) continue;
      writer_of[++last] = kWriters;  // nobody's inbox
      if (engine().Describe(writers[writer].caller(), *reservation)->in_place) {
        for (const wire::ResidencyWord word : writers[writer].Words(*reservation))
          inboxes[{word.pool(), word.segment()}][word.incarnation()] = writer;
        writer_of[last] = writer;
      }
      const CommitArgs args = writers[writer].Fill(*reservation, model, NumberedKey(last));
      ASSERT_THAT(engine().Commit(writers[writer].caller(), *reservation, args, fixture.now()),
                  IsOk());
    } else if (action < 7) {
      (void)engine().Forget(caller, model, Keys(known, 1 + rng.Below(3)));
    } else if (action < 9) {
      const uint64_t before = InFastPool(known, 8);
      Prefetch(known, 8);
      Ticks(static_cast<int>(rng.Below(20)));
      refilled += InFastPool(known, 8) > before ? 1 : 0;
    } else if (action < 11) {
      check(known);
    } else if (action == 11 && rng.OneIn(8)) {
      fixture.Advance(kIdle);
    } else if (action == 12 && section) {
      engine().ExitSection(*std::exchange(section, std::nullopt));
    } else if (action == 13 && !section) {
      section = engine().EnterSection();
    } else {
      Ticks(1);
    }
    engine().CheckInvariants();
  }
  EXPECT_GT(refilled, 20u);
  if (section) engine().ExitSection(*section);
}

}  // namespace
}  // namespace kvtier::test_support
