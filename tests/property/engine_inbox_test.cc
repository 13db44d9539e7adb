// Reservations in place: their slots are in inboxes of the client that writes them, which it is
// given for writing once and others only sealed; nothing is committed before that, nobody else ever
// gets the memory, and writers that fill a pool do not shut each other out. Each rule on its own.
#include <set>

#include "tests/property/engine_rules.h"
#include "tests/support/in_place_writer.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {
namespace {

EngineFixtureOptions Shared(std::vector<uint32_t> segments = {4, 12}) {
  EngineFixtureOptions options;
  options.shared = true;
  options.segments = std::move(segments);
  options.tenants = 2;
  return options;
}

class EngineInbox : public EngineRules {
 protected:
  EngineInbox() : EngineRules(Shared()), model(fixture.Register(caller, DenseModel())) {}

  Code Grant(const InPlaceWriter& to, wire::ResidencyWord word, bool writable) {
    return engine().GrantSegment(to.client(), word, writable).status().code();
  }
  Code Seal(const InPlaceWriter& of, wire::ResidencyWord word) {
    return engine().SegmentSealed(of.client(), word).code();
  }

  ModelId model;
};

TEST_F(EngineInbox, WithoutASharedClientOrTheWishAReservationIsPlain) {
  ReserveArgs args = Chunks(model);
  args.in_place = true;
  const auto without_client = engine().Reserve(caller, args, fixture.now());
  ASSERT_THAT(without_client, IsOk());
  EXPECT_FALSE(engine().Describe(caller, *without_client)->in_place);
  std::vector<uint64_t> words;
  EXPECT_THAT(engine().ReservationWords(caller, *without_client, words),
              StatusIs(Code::kFailedPrecondition));
  const InPlaceWriter writer(&fixture);
  const auto without_wish = engine().Reserve(writer.caller(), Chunks(model), fixture.now());
  ASSERT_THAT(without_wish, IsOk());
  EXPECT_FALSE(engine().Describe(writer.caller(), *without_wish)->in_place);
}

TEST_F(EngineInbox, AnInboxIsGivenForWritingOnceAndReadOnlyWhenSealed) {
  InPlaceWriter writer(&fixture), other(&fixture), stranger(&fixture, 1);
  const ReservationId reservation = *writer.Reserve(model);
  EXPECT_TRUE(engine().Describe(writer.caller(), reservation)->in_place);
  const std::vector<wire::ResidencyWord> words = writer.Words(reservation);
  ASSERT_THAT(words, SizeIs(DenseModel().planes.size()));
  for (const wire::ResidencyWord word : words) EXPECT_EQ(word.segment(), words[0].segment());
  // Its own mapping is the only way to write.
  EXPECT_THAT(engine().Target(writer.caller(), reservation, 0, Plane(0)),
              StatusIs(Code::kFailedPrecondition, HasSubstr("in place")));

  EXPECT_EQ(Grant(writer, words[0], false), Code::kUnavailable);
  EXPECT_EQ(Grant(other, words[0], false), Code::kUnavailable);
  EXPECT_EQ(Grant(other, words[0], true), Code::kFailedPrecondition);
  EXPECT_EQ(Grant(stranger, words[0], false), Code::kNotFound);
  EXPECT_EQ(Grant(stranger, words[0], true), Code::kNotFound);
  EXPECT_EQ(Seal(writer, words[0]), Code::kFailedPrecondition) << "it was not mapped yet";
  const auto grant = engine().GrantSegment(writer.client(), words[0], true);
  ASSERT_THAT(grant, IsOk());
  EXPECT_TRUE(grant->writable);
  EXPECT_EQ(grant->segment.value(), words[0].segment());
  EXPECT_EQ(grant->slot_bytes, DenseModel().planes[0].bytes_per_chunk);
  EXPECT_EQ(Grant(writer, words[1], true), Code::kFailedPrecondition) << "the same, twice";
  EXPECT_EQ(Grant(other, words[0], false), Code::kUnavailable);
  EXPECT_EQ(Seal(other, words[0]), Code::kFailedPrecondition);
  EXPECT_EQ(Seal(stranger, words[0]), Code::kNotFound);
  EXPECT_EQ(Seal(writer, words[0]), Code::kOk);
  EXPECT_EQ(Seal(writer, words[0]), Code::kFailedPrecondition);
  EXPECT_EQ(Grant(other, words[0], false), Code::kOk);
  EXPECT_EQ(Grant(writer, words[0], true), Code::kFailedPrecondition);
  EXPECT_EQ(Grant(stranger, words[0], false), Code::kNotFound);
  // Another use of the segment, a pool and a segment that are not there, no word at all.
  EXPECT_EQ(
      Grant(other, wire::ResidencyWord(words[0].copy_bits(), words[0].incarnation() + 1), false),
      Code::kNotFound);
  for (const uint32_t copy : {0xffffffffu, 0x7fffffffu, 0x0fffffffu})
    EXPECT_EQ(Grant(other, wire::ResidencyWord(copy, 1), false), Code::kNotFound);
  EXPECT_EQ(Grant(other, wire::ResidencyWord(), false), Code::kNotFound);
  other.End();
  EXPECT_EQ(Grant(other, words[0], false), Code::kNotFound) << "of a client that is gone";
}

TEST_F(EngineInbox, WhatWasNotMappedIsGivenAgain) {
  InPlaceWriter writer(&fixture), other(&fixture), stranger(&fixture, 1);
  const auto give_back = [&](const InPlaceWriter& of, wire::ResidencyWord word) {
    return engine().SegmentReturned(of.client(), word).code();
  };
  const ReservationId reservation = *writer.Reserve(model);
  const wire::ResidencyWord word = writer.Words(reservation)[0];
  EXPECT_EQ(give_back(writer, word), Code::kFailedPrecondition) << "it was not given yet";
  ASSERT_EQ(Grant(writer, word, true), Code::kOk);
  EXPECT_EQ(give_back(other, word), Code::kFailedPrecondition);
  EXPECT_EQ(give_back(stranger, word), Code::kNotFound);
  EXPECT_EQ(give_back(writer, wire::ResidencyWord(word.copy_bits(), word.incarnation() + 1)),
            Code::kNotFound);
  ASSERT_EQ(give_back(writer, word), Code::kOk);
  EXPECT_EQ(Seal(writer, word), Code::kFailedPrecondition);
  ASSERT_EQ(Grant(writer, word, true), Code::kOk);
  // The reservation ends before the client has mapped it: the inbox waits for its writer.
  ASSERT_THAT(engine().Abort(writer.caller(), reservation), IsOk());
  fixture.Advance(absl::Milliseconds(1));
  EXPECT_EQ(Grant(writer, word, true), Code::kNotFound);
  ASSERT_EQ(give_back(writer, word), Code::kOk);
  const ReservationId second = *writer.Reserve(model);
  ASSERT_EQ(writer.Words(second)[0].segment(), word.segment());
  ASSERT_EQ(Grant(writer, word, true), Code::kOk);
  // And before it is sealed.
  ASSERT_THAT(engine().Abort(writer.caller(), second), IsOk());
  fixture.Advance(absl::Milliseconds(1));
  ASSERT_EQ(Seal(writer, word), Code::kOk);
  EXPECT_EQ(give_back(writer, word), Code::kFailedPrecondition) << "sealed";
  EXPECT_EQ(Grant(writer, word, false), Code::kUnavailable) << "its mapping is still meant";
  EXPECT_EQ(Grant(other, word, false), Code::kNotFound);
  EXPECT_THAT(writer.Put(model, kNoParent, NumberedKey(1)), IsOk());
  engine().CheckInvariants();
}

TEST_F(EngineInbox, NothingIsCommittedBeforeItsInboxIsSealed) {
  InPlaceWriter writer(&fixture), other(&fixture);
  const ReservationId reservation = *writer.Reserve(model);
  CommitArgs args;
  args.key = NumberedKey(1);
  args.token_count = DenseModel().chunk_tokens;
  args.checksums.resize(DenseModel().planes.size());
  const auto commit = [&] {
    return engine().Commit(writer.caller(), reservation, args, fixture.now());
  };
  EXPECT_THAT(commit(), StatusIs(Code::kFailedPrecondition, HasSubstr("mapped for writing")));
  ASSERT_EQ(Grant(writer, writer.Words(reservation)[0], true), Code::kOk);
  EXPECT_THAT(commit(), StatusIs(Code::kFailedPrecondition, HasSubstr("mapped for writing")));
  ASSERT_EQ(Seal(writer, writer.Words(reservation)[0]), Code::kOk);
  args.checksums = writer.Fill(reservation, model, NumberedKey(1)).checksums;
  EXPECT_THAT(commit(), IsOk());
  // In place: it is where it was written, for others, too.
  const LookupResult found = fixture.Lookup(other.caller(), model, {NumberedKey(1)});
  ASSERT_EQ(found.matched, 1u);
  EXPECT_THAT(fixture.Read(other.caller(), found.lease, 0, NumberedKey(1)),
              SizeIs(DenseModel().planes.size()));
  engine().CheckInvariants();
}

TEST_F(EngineInbox, NobodyElseGetsSlotsOfAnInbox) {
  InPlaceWriter writer(&fixture), other(&fixture);
  ASSERT_THAT(writer.Put(model, kNoParent, NumberedKey(1)), IsOk());
  const ReservationId open = *writer.Reserve(model);
  const wire::ResidencyWord of_writer = writer.Words(open)[0];
  const ReservationId of_other = *other.Reserve(model);
  const auto plain = engine().Reserve(writer.caller(), Chunks(model), fixture.now());
  const auto target = engine().Target(writer.caller(), *plain, 0, Plane(0));
  ASSERT_THAT(target, IsOk());
  std::set<std::pair<uint32_t, uint32_t>> segments;
  segments.insert({of_writer.pool(), of_writer.segment()});
  segments.insert({other.Words(of_other)[0].pool(), other.Words(of_other)[0].segment()});
  segments.insert({target->slot.pool.value(), target->slot.segment.value()});
  EXPECT_THAT(segments, SizeIs(3));
  // The session ends while its process lives on and may write: nobody gets what was reserved there,
  // and with the last block the segment goes back to the pool.
  ASSERT_THAT(engine().Detach(writer.caller()), IsOk());
  fixture.Advance(absl::Milliseconds(1));
  const Caller reader = fixture.Attach();
  for (int i = 0; i < 8; ++i) {
    const auto next = engine().Reserve(reader, Chunks(model), fixture.now());
    ASSERT_THAT(next, IsOk());
    const auto slot = engine().Target(reader, *next, 0, Plane(0))->slot;
    EXPECT_NE(std::make_pair(uint32_t{slot.pool.value()}, slot.segment.value()),
              std::make_pair(of_writer.pool(), of_writer.segment()));
  }
  EXPECT_TRUE(fixture.pool(of_writer.pool()).exists(SegmentIndex(of_writer.segment())));
  ASSERT_THAT(engine().Forget(reader, model, {NumberedKey(1)}), IsOk());
  fixture.Advance(absl::Milliseconds(1));
  EXPECT_EQ(Grant(writer, of_writer, false), Code::kNotFound);
  EXPECT_FALSE(fixture.pool(of_writer.pool()).exists(SegmentIndex(of_writer.segment())));
  engine().CheckInvariants();
}

TEST_F(EngineInbox, AnEndedWriterGetsPlainReservationsAndItsBlocksStay) {
  InPlaceWriter writer(&fixture), reader(&fixture);
  ASSERT_THAT(writer.Put(model, kNoParent, NumberedKey(1)), IsOk());
  writer.End();
  const auto plain = writer.Reserve(model);
  ASSERT_THAT(plain, IsOk());
  EXPECT_FALSE(engine().Describe(writer.caller(), *plain)->in_place);
  const LookupResult found = fixture.Lookup(reader.caller(), model, {NumberedKey(1)});
  ASSERT_EQ(found.matched, 1u);
  const auto copy = fixture.Read(reader.caller(), found.lease, 0, NumberedKey(1))[0].copies[0];
  // With the last of them the memory is nobody's: a child of its process may have it mapped.
  ASSERT_THAT(engine().Release(reader.caller(), found.lease), IsOk());
  ASSERT_THAT(engine().Forget(reader.caller(), model, {NumberedKey(1)}), IsOk());
  fixture.Advance(absl::Milliseconds(1));
  EXPECT_FALSE(fixture.pool(copy.pool.value()).exists(copy.slot.segment));
  engine().CheckInvariants();
}

TEST_F(EngineInbox, AWordIsResolvedToTheBlockThatItIs) {
  InPlaceWriter writer(&fixture), stranger(&fixture, 1);
  const ReservationId reservation = *writer.Reserve(model);
  const CommitArgs args = writer.Fill(reservation, model, NumberedKey(1));
  const std::vector<wire::ResidencyWord> words = writer.Words(reservation);
  const auto resolve = [&](Caller asks, uint64_t row, int plane, wire::ResidencyWord word) {
    return engine().ResolveWord(asks, row, Plane(plane), word);
  };
  ASSERT_THAT(engine().Commit(writer.caller(), reservation, args, fixture.now()), IsOk());
  const LookupResult found = fixture.Lookup(writer.caller(), model, {NumberedKey(1)});
  std::vector<uint64_t> rows;
  ASSERT_THAT(engine().LeaseRows(writer.caller(), found.lease, rows), IsOk());
  ASSERT_THAT(rows, SizeIs(1));
  const SectionId section = engine().EnterSection();
  const auto target = resolve(writer.caller(), rows[0], 1, words[1]);
  ASSERT_THAT(target, IsOk());
  EXPECT_EQ(target->copy_count, 1);
  EXPECT_EQ(target->checksum, args.checksums[1]);
  EXPECT_EQ(target->copies[0].address, *InPlaceAddress(fixture, writer.client(), words[1]));
  EXPECT_THAT(resolve(writer.caller(), rows[0], 0, words[1]), StatusIs(Code::kNotFound));
  EXPECT_THAT(resolve(writer.caller(), rows[0], 999, words[1]), StatusIs(Code::kNotFound));
  EXPECT_THAT(resolve(writer.caller(), rows[0] + 1, 1, words[1]), StatusIs(Code::kNotFound));
  EXPECT_THAT(resolve(stranger.caller(), rows[0], 1, words[1]), StatusIs(Code::kNotFound));
  const wire::ResidencyWord old(words[1].copy_bits(), words[1].incarnation() + 1);
  EXPECT_THAT(resolve(writer.caller(), rows[0], 1, old), StatusIs(Code::kNotFound));
  const wire::ResidencyWord beyond(words[1].copy_bits() | 0x3fff, words[1].incarnation());
  EXPECT_THAT(resolve(writer.caller(), rows[0], 1, beyond), StatusIs(Code::kNotFound));
  engine().ReportCorrupt(*target, 0);
  EXPECT_EQ(engine().counters().corrupt_copies, 1u);
  EXPECT_THAT(resolve(writer.caller(), rows[0], 1, words[1]), StatusIs(Code::kNotFound));
  engine().ExitSection(section);
}

TEST_F(EngineInbox, WhatAWriterChangesAfterwardsFailsToMoveAndIsDropped) {
  InPlaceWriter writer(&fixture);
  ASSERT_THAT(writer.Put(model, kNoParent, NumberedKey(1)), IsOk());
  const LookupResult found = fixture.Lookup(writer.caller(), model, {NumberedKey(1)});
  fixture.Corrupt(writer.caller(), found.lease, 0, Plane(0));
  ASSERT_THAT(engine().Release(writer.caller(), found.lease), IsOk());
  // Filling the fast pool moves it to the slow one.
  for (uint64_t number = 2; number < 40; ++number) {
    ASSERT_THAT(writer.Put(model, kNoParent, NumberedKey(number)), IsOk());
    fixture.Settle();
  }
  EXPECT_GT(engine().counters().moves_done, 0u);
  EXPECT_EQ(engine().counters().corrupt_copies, 1u);
  EXPECT_EQ(fixture.Matched(writer.caller(), model, {NumberedKey(1)}), 0u);
  engine().CheckInvariants();
}

TEST_F(EngineInbox, ScrubbingVisitsEveryCopyOnceARound) {
  InPlaceWriter writer(&fixture);
  for (uint64_t number = 1; number <= 5; ++number)
    ASSERT_THAT(writer.Put(model, kNoParent, NumberedKey(number)), IsOk());
  const Caller stranger = fixture.Attach(1);
  const ModelId theirs = fixture.Register(stranger, DenseModel());
  fixture.PutChain(stranger, theirs, Keys(1, 3));
  const SectionId section = engine().EnterSection();
  uint64_t cursor = 0;
  ReadTarget target;
  for (int round = 0; round < 2; ++round) {
    std::set<const std::byte*> seen;
    while (engine().NextToScrub(cursor, target)) {
      ASSERT_EQ(target.copy_count, 1);
      EXPECT_TRUE(seen.insert(target.copies[0].address).second);
      const std::vector<std::byte> bytes(target.copies[0].address,
                                         target.copies[0].address + target.bytes.count());
      EXPECT_EQ(ContentChecksum(bytes), target.checksum);
    }
    EXPECT_EQ(cursor, 0u);
    EXPECT_THAT(seen, SizeIs(8 * DenseModel().planes.size()));
  }
  cursor = ~uint64_t{0};  // whatever the caller has there
  EXPECT_FALSE(engine().NextToScrub(cursor, target));
  EXPECT_EQ(cursor, 0u);
  engine().ExitSection(section);
}

// Rows of a thousand planes each, none of which has a copy any more.
TEST_F(EngineInbox, ACallOfTheScrubberIsBoundedByPlanesToo) {
  ModelSpec spec = DenseModel();
  spec.name = "many planes";
  spec.planes.resize(1000, spec.planes[0]);
  for (size_t i = 1; i < spec.planes.size(); ++i) {
    spec.planes[i].name = "optional" + std::to_string(i);
    spec.planes[i].required = false;
  }
  const ModelId wide = fixture.Register(caller, spec);
  const uint64_t looks_each = 2 * spec.planes.size();
  const SectionId section = engine().EnterSection();
  for (uint64_t number = 1; number <= 8; ++number) {
    const wire::ChunkKey key = NumberedKey(number);
    ASSERT_THAT(fixture.Put(caller, wide, kNoParent, key, {Plane(0)}), IsOk());
    const LookupResult found = fixture.Lookup(caller, wide, {key});
    std::vector<ReadTarget> targets;
    ASSERT_THAT(engine().Resolve(caller, found.lease, 0, {}, targets), IsOk());
    ASSERT_THAT(targets, SizeIs(1));
    engine().ReportCorrupt(targets[0], 0);
  }
  const auto looks_before = [&](uint64_t cursor) {
    return (cursor >> 17) * looks_each + (cursor & 0x1ffff);
  };
  uint64_t cursor = 0;
  ReadTarget target;
  int calls = 0;
  do {
    const uint64_t before = looks_before(cursor);
    EXPECT_FALSE(engine().NextToScrub(cursor, target));
    if (cursor != 0) {
      EXPECT_LE(looks_before(cursor) - before, 4096u);
    }
    ++calls;
  } while (cursor != 0);
  EXPECT_GE(calls, 4);
  EXPECT_LE(calls, 5);
  engine().ExitSection(section);
}

// A pool of 16 segments, full of chunks that are next to go in such an order that each leaves
// another segment. One segment is an inbox with no more than an open reservation in it.
class EngineInboxFull : public EngineRules {
 protected:
  static constexpr int kSegments = 15, kPerSegment = 4;

  EngineInboxFull()
      : EngineRules(Shared({kSegments + 1})), model(fixture.Register(caller, DenseModel())) {
    EXPECT_THAT(holder.Reserve(model), IsOk());
    const auto keys = Keys(1, kSegments * kPerSegment);
    for (const wire::ChunkKey& key : keys)
      EXPECT_THAT(fixture.Put(caller, model, kNoParent, key), IsOk());
    for (int i = 0; i < kPerSegment; ++i) {
      for (int segment = 0; segment < kSegments; ++segment)
        fixture.Lookup(caller, model, {keys[static_cast<size_t>(segment * kPerSegment + i)]},
                       false);
    }
    EXPECT_EQ(Chunks(), keys.size());
  }
  uint64_t Chunks() { return engine().Totals(std::nullopt).chunks; }

  InPlaceWriter holder{&fixture};
  ModelId model;
};

TEST_F(EngineInboxFull, ASegmentIsEmptiedForAWriterThatHasNone) {
  InPlaceWriter late(&fixture);
  const auto reservation = late.Reserve(model);
  ASSERT_THAT(reservation, IsOk());
  EXPECT_TRUE(engine().Describe(late.caller(), *reservation)->in_place);
  EXPECT_GE(Chunks(), uint64_t{kSegments * kPerSegment - 8});
  engine().CheckInvariants();
}

TEST_F(EngineInboxFull, WhileReadersHoldWhatWasDroppedNoMoreIs) {
  InPlaceWriter late(&fixture);
  const SectionId section = engine().EnterSection();
  // Room for others' reservations is to come, but not for a writer's.
  ASSERT_THAT(engine().Forget(caller, model, {NumberedKey(1)}), IsOk());
  const uint64_t before = Chunks();
  for (int i = 0; i < 20; ++i)
    EXPECT_THAT(late.Reserve(model), StatusIs(Code::kResourceExhausted, HasSubstr("no room")));
  EXPECT_LT(Chunks(), before);
  EXPECT_GE(Chunks(), before - 8);
  engine().ExitSection(section);
  const auto reservation = late.Reserve(model);
  ASSERT_THAT(reservation, IsOk());
  EXPECT_TRUE(engine().Describe(late.caller(), *reservation)->in_place);
  engine().CheckInvariants();
}

// The slow pool has inboxes with one chunk each, as many as it may, and segments of other slots:
// one of the inboxes makes room for what is to move there.
TEST(EngineInboxRoom, AMoveEmptiesAnInboxWithLittleInIt) {
  EngineFixture fixture(Shared({2, 6}));
  const Caller other = fixture.Attach();
  const ModelId latent = fixture.Register(other, LatentModel());
  InPlaceWriter first(&fixture);
  const ModelId model = fixture.Register(first.caller(), DenseModel());
  for (const wire::ChunkKey& key : Keys(1, 8))
    ASSERT_THAT(first.Put(model, kNoParent, key), IsOk());
  std::vector<InPlaceWriter> others;
  for (uint64_t number = 9; number < 12; ++number) {
    ASSERT_THAT(others.emplace_back(&fixture).Put(model, kNoParent, NumberedKey(number)), IsOk());
    ASSERT_EQ(fixture.engine().Pools()[1].segments, number - 8);
  }
  for (uint64_t number = 12; fixture.engine().Pools()[1].segments < 6; ++number)
    ASSERT_THAT(fixture.Put(other, latent, kNoParent, NumberedKey(number)), IsOk());
  ASSERT_EQ(fixture.engine().counters().dropped_chunks, 0u);
  fixture.Settle();
  EXPECT_GT(fixture.engine().counters().moves_done, 0u);
  EXPECT_EQ(fixture.engine().counters().dropped_chunks, 1u);
  fixture.engine().CheckInvariants();
}

}  // namespace
}  // namespace kvtier::test_support
