// Eviction, forgetting, moves and limits: what may go, and what stays whatever happens. Each rule
// on its own; the property test beside this one mixes them all.
#include "tests/property/engine_rules.h"

namespace kvtier::test_support {
namespace {

class EngineEviction : public EngineRules {
 protected:
  // 8 KiB in one segment of each pool: 8 chunks of the dense model altogether.
  EngineEviction() : EngineRules(Small()) {}
  static EngineFixtureOptions Small() {
    EngineFixtureOptions options;
    options.policy = PolicyChoice::kScripted;
    options.segments = {1, 1};
    return options;
  }
};

TEST_F(EngineEviction, TailsGoBeforeTheirHeadsAndLeasedChunksNever) {
  const ModelId model = fixture.Register(caller, DenseModel());
  const auto keys = Keys(1, 8);
  fixture.PutChain(caller, model, keys);
  const LookupResult held = fixture.Lookup(caller, model, absl::MakeSpan(keys).subspan(0, 7));
  ASSERT_EQ(held.matched, 7u);
  // The only chunk that may go is the last; after it there is nothing.
  ASSERT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(50)), IsOk());
  const std::vector<Event> events = fixture.Events(0, 8);
  ASSERT_THAT(KindsOf(events), ElementsAre(EventKind::kDropped, EventKind::kCommitted));
  EXPECT_EQ(events[0].key, keys[7]);
  EXPECT_EQ(fixture.Matched(caller, model, keys), 7u);
  ASSERT_OK_AND_ASSIGN(const ReservationId pinned,
                       engine().Reserve(caller, Chunks(model, 1, keys[6]), fixture.now()));
  EXPECT_THAT(engine().Reserve(caller, Chunks(model, 1, keys[6]), fixture.now()),
              StatusIs(Code::kResourceExhausted,
                       AllOf(HasSubstr("pool dram:0"), HasSubstr("tenant \"tenant-0\""),
                             HasSubstr("of 8192 bytes"))));
  EXPECT_EQ(fixture.Matched(caller, model, keys), 7u);
  EXPECT_THAT(engine().Abort(caller, pinned), IsOk());
  for (uint32_t chunk = 0; chunk < 7; ++chunk)
    (void)fixture.Read(caller, held.lease, chunk, keys[chunk]);
}

TEST_F(EngineEviction, AReservationPinsItsParent) {
  const ModelId model = fixture.Register(caller, DenseModel());
  fixture.PutChain(caller, model, Keys(1, 7));
  // Room for one more chunk, which goes on from a chunk that is alone.
  ASSERT_THAT(engine().Forget(caller, model, Keys(2, 1)), IsOk());
  fixture.Settle();
  ASSERT_OK_AND_ASSIGN(const ReservationId id,
                       engine().Reserve(caller, Chunks(model, 7, NumberedKey(1)), fixture.now()));
  EXPECT_THAT(engine().Reserve(caller, Chunks(model), fixture.now()),
              StatusIs(Code::kResourceExhausted));
  EXPECT_EQ(fixture.Matched(caller, model, Keys(1, 1)), 1u);
  EXPECT_THAT(engine().Abort(caller, id), IsOk());
  EXPECT_THAT(engine().Reserve(caller, Chunks(model, 8), fixture.now()), IsOk());
  EXPECT_EQ(fixture.Matched(caller, model, Keys(1, 1)), 0u);
}

TEST_F(EngineRules, ForgettingInMidChainHidesDescendantsAtOnceAndFreesThemAsLeasesEnd) {
  const ModelId model = fixture.Register(caller, DenseModel());
  const auto keys = Keys(1, 4);
  fixture.PutChain(caller, model, keys);
  const LookupResult held = fixture.Lookup(caller, model, keys);
  ASSERT_OK_AND_ASSIGN(const uint32_t hidden, engine().Forget(caller, model, {&keys[1], 1}));
  EXPECT_EQ(hidden, 3u);
  EXPECT_EQ(fixture.Matched(caller, model, keys), 1u);
  EXPECT_THAT(engine().Reserve(caller, Chunks(model, 1, keys[2]), fixture.now()),
              StatusIs(Code::kFailedPrecondition));
  // The lease keeps its promise.
  for (uint32_t chunk = 0; chunk < 4; ++chunk)
    (void)fixture.Read(caller, held.lease, chunk, keys[chunk]);
  EXPECT_EQ(engine().Totals(std::nullopt).chunks, 4u);

  // The same name again is a new chunk, and the old descendants are not its.
  ASSERT_OK_AND_ASSIGN(const CommitOutcome outcome, fixture.Put(caller, model, keys[0], keys[1]));
  EXPECT_EQ(outcome, CommitOutcome::kCommitted);
  EXPECT_EQ(fixture.Matched(caller, model, keys), 2u);
  EXPECT_EQ(engine().Totals(std::nullopt).chunks, 5u);
  EXPECT_THAT(engine().Release(caller, held.lease), IsOk());
  fixture.Settle();
  EXPECT_EQ(engine().Totals(std::nullopt).chunks, 2u);
  EXPECT_EQ(fixture.Matched(caller, model, keys), 2u);
  std::vector<EventKind> kinds = KindsOf(fixture.Events());
  EXPECT_THAT(std::vector<EventKind>(kinds.begin() + 4, kinds.end()),
              ElementsAre(EventKind::kForgotten, EventKind::kForgotten, EventKind::kForgotten,
                          EventKind::kCommitted));
}

TEST_F(EngineRules, ForgettingWhileSomeoneWritesBehindItRefusesTheCommit) {
  const ModelId model = fixture.Register(caller, DenseModel());
  const auto keys = Keys(1, 2);
  fixture.PutChain(caller, model, absl::MakeSpan(keys).subspan(0, 1));
  ASSERT_OK_AND_ASSIGN(const ReservationId id,
                       engine().Reserve(caller, Chunks(model, 1, keys[0]), fixture.now()));
  ASSERT_THAT(engine().Forget(caller, model, {&keys[0], 1}), IsOk());
  EXPECT_THAT(
      engine().Commit(caller, id, fixture.Fill(caller, id, 0, model, keys[1], {}), fixture.now()),
      StatusIs(Code::kFailedPrecondition, HasSubstr(keys[0].ToHex())));
  EXPECT_THAT(engine().Abort(caller, id), IsOk());
  fixture.Settle();
  EXPECT_EQ(fixture.Used(), Bytes(0));
  EXPECT_EQ(engine().Totals(std::nullopt).chunks, 0u);
}

// --- moves
// ----------------------------------------------------------------------------------------------------

class EngineMoves : public EngineRules {
 protected:
  EngineMoves() : EngineRules(WithPolicy(PolicyChoice::kScripted)) {
    model = fixture.Register(caller, DenseModel());
    fixture.PutChain(caller, model, Keys(1, 1));
    lease = fixture.Lookup(caller, model, Keys(1, 1)).lease;
  }
  std::vector<ReadTarget> Read() { return fixture.Read(caller, lease, 0, NumberedKey(1)); }
  void Move(int plane, int from, int to, bool keep_source = false) {
    fixture.script().Move(model, NumberedKey(1), Plane(plane), PoolId(static_cast<uint8_t>(from)),
                          PoolId(static_cast<uint8_t>(to)), keep_source);
    fixture.Advance(absl::Milliseconds(5));
  }
  ModelId model;
  LeaseId lease;
};

TEST_F(EngineMoves, ANewCopyIsPublishedOnlyWhenItsBytesAreThere) {
  fixture.copies().set_held(true);
  Move(2, 0, 1);
  ASSERT_EQ(fixture.copies().in_flight(), 1u);
  EXPECT_EQ(Read()[2].copies[0].pool, PoolId(0));
  EXPECT_EQ(Read()[2].copy_count, 1);
  EXPECT_EQ(engine().Totals(std::nullopt).moves_in_flight, 1u);
  fixture.copies().set_held(false);
  fixture.Settle();
  EXPECT_EQ(Read()[2].copies[0].pool, PoolId(1));
  EXPECT_EQ(Read()[2].copy_count, 1);
  const std::vector<Event> events = fixture.Events(0, 1);
  ASSERT_THAT(KindsOf(events), ElementsAre(EventKind::kMoved));
  EXPECT_EQ(events[0].plane, Plane(2));
  EXPECT_EQ(events[0].pool, PoolId(1));
  EXPECT_EQ(engine().Pools()[1].used, Bytes(512));
}

TEST_F(EngineMoves, AFailedMoveChangesNothing) {
  const Bytes used = fixture.Used();
  for (const absl::Status& why :
       {absl::UnavailableError("the link is down"), absl::CancelledError("not now")}) {
    fixture.copies().FailCopy(0, why);
    Move(2, 0, 1);
    fixture.Settle();
    EXPECT_EQ(Read()[2].copies[0].pool, PoolId(0));
    EXPECT_EQ(Read()[2].copy_count, 1);
    EXPECT_EQ(fixture.Used(), used) << "the destination is free again";
  }
  EXPECT_EQ(engine().counters().moves_failed, 2u);
  EXPECT_EQ(engine().counters().corrupt_copies, 0u);
  EXPECT_THAT(fixture.Events(0, 1), IsEmpty());
}

TEST_F(EngineMoves, AForgottenChunkIsFreedWhenItsMoveEnds) {
  fixture.copies().set_held(true);
  Move(2, 0, 1);
  ASSERT_THAT(engine().Forget(caller, model, Keys(1, 1)), IsOk());
  ASSERT_THAT(engine().Release(caller, lease), IsOk());
  fixture.Advance(absl::Milliseconds(5));
  EXPECT_EQ(engine().Totals(std::nullopt).chunks, 1u) << "a copy still reads it";
  fixture.copies().set_held(false);
  fixture.Settle();
  EXPECT_EQ(engine().Totals(std::nullopt).chunks, 0u);
  EXPECT_EQ(fixture.Used(), Bytes(0));
}

TEST_F(EngineMoves, IdeasThatDoNotFitAreRefused) {
  const Bytes used = fixture.Used();
  Move(2, 1, 0);   // it is not there
  Move(77, 0, 1);  // there is no such plane
  fixture.script().Move(model, NumberedKey(9), Plane(0), PoolId(0), PoolId(1));  // nor such a chunk
  fixture.Settle();
  EXPECT_EQ(engine().counters().moves_started, 0u);
  EXPECT_EQ(fixture.Used(), used);
}

TEST_F(EngineMoves, ADamagedSourceIsFoundByTheCopy) {
  fixture.Corrupt(caller, lease, 0, Plane(2));
  Move(2, 0, 1);
  fixture.Settle();
  EXPECT_EQ(engine().counters().corrupt_copies, 1u);
  EXPECT_EQ(engine().counters().lost_blocks, 1u);
  EXPECT_EQ(fixture.Matched(caller, model, Keys(1, 1)), 0u);
  const std::vector<Event> events = fixture.Events(0, 1);
  ASSERT_THAT(KindsOf(events), ElementsAre(EventKind::kLost));
  EXPECT_EQ(events[0].plane, Plane(2));
}

TEST_F(EngineMoves, ABadCopyIsDroppedAndTheOtherOneServes) {
  Move(2, 0, 1, /*keep_source=*/true);
  fixture.Settle();
  ASSERT_EQ(Read()[2].copy_count, 2);
  EXPECT_EQ(Read()[2].copies[0].pool, PoolId(0)) << "best first";
  const Bytes used = fixture.Used();
  fixture.Corrupt(caller, lease, 0, Plane(2), 0);
  std::vector<ReadTarget> targets;
  ASSERT_THAT(engine().Resolve(caller, lease, 0, {}, targets), IsOk());
  engine().ReportCorrupt(targets[2], 0);
  EXPECT_EQ(engine().counters().corrupt_copies, 1u);
  EXPECT_EQ(engine().counters().lost_blocks, 0u);
  EXPECT_EQ(Read()[2].copy_count, 1);
  EXPECT_EQ(Read()[2].copies[0].pool, PoolId(1));
  EXPECT_EQ(fixture.Matched(caller, model, Keys(1, 1)), 1u);
  fixture.Settle();
  EXPECT_EQ(fixture.Used(), used - Bytes(512));
  // The same report again is about a copy that is gone.
  engine().ReportCorrupt(targets[2], 0);
  EXPECT_EQ(engine().counters().corrupt_copies, 1u);
}

TEST_F(EngineMoves, TheLastBadCopyHidesTheChunkUntilItIsCommittedAgain) {
  const wire::ChunkKey child = NumberedKey(2);
  ASSERT_THAT(fixture.Put(caller, model, NumberedKey(1), child), IsOk());
  const auto keys = Keys(1, 2);
  std::vector<ReadTarget> targets;
  ASSERT_THAT(engine().Resolve(caller, lease, 0, {}, targets), IsOk());
  engine().ReportCorrupt(targets[1], 0);
  EXPECT_EQ(fixture.Matched(caller, model, keys), 0u);
  EXPECT_THAT(KindsOf(fixture.Events(0, 2)), ElementsAre(EventKind::kLost));
  // Whoever reads it through a lease is told.
  targets.clear();
  ASSERT_THAT(engine().Resolve(caller, lease, 0, {}, targets), IsOk());
  EXPECT_EQ(targets[1].copy_count, 0);
  EXPECT_EQ(targets[0].copy_count, 1);
  ASSERT_OK_AND_ASSIGN(const CommitOutcome outcome, fixture.Put(caller, model, kNoParent, keys[0]));
  EXPECT_EQ(outcome, CommitOutcome::kCommitted);
  EXPECT_EQ(fixture.Matched(caller, model, keys), 2u) << "its descendants are visible again";
  fixture.Settle();
  EXPECT_EQ(fixture.Used(), Bytes(8 * 512));
}

// A copy reads its source until it completes, also when that source was found bad meanwhile.
TEST_F(EngineMoves, ASourceFoundBadStaysAllocatedUntilTheCopyEnds) {
  fixture.copies().set_held(true);
  Move(2, 0, 1);
  std::vector<ReadTarget> targets;
  ASSERT_THAT(engine().Resolve(caller, lease, 0, {}, targets), IsOk());
  const SlotAddress source = targets[2].copies[0].slot;
  ASSERT_EQ(fixture.copies().InFlight()[0].source, source);
  engine().ReportCorrupt(targets[2], 0);
  fixture.Advance(absl::Milliseconds(5));
  // Nobody else is given the slot: all of the pool's other slots are, and this one is not among
  // them.
  bool reused = false;
  int reserved = 0;
  while (true) {
    auto id = engine().Reserve(caller, Chunks(model, 1, kNoParent, {Plane(0)}), fixture.now());
    if (!id.ok()) break;
    ++reserved;
    auto target = engine().Target(caller, *id, 0, Plane(0));
    ASSERT_THAT(target, IsOk());
    reused |= target->slot == source;
  }
  EXPECT_GE(reserved, 200);
  EXPECT_FALSE(reused);
  fixture.copies().set_held(false);
  fixture.Settle();
  EXPECT_EQ(engine().counters().corrupt_copies, 1u) << "counted once";
  EXPECT_EQ(Read().size(), 4u);
}

TEST_F(EngineMoves, RetiredSlotsAreNotReusedWhileASectionIsOpen) {
  const SectionId section = engine().EnterSection();
  std::vector<ReadTarget> targets;
  ASSERT_THAT(engine().Resolve(caller, lease, 0, {}, targets), IsOk());
  const auto content = BlockContent(caller.tenant, model, NumberedKey(1), Plane(2), Bytes(512));
  Move(2, 0, 1);
  fixture.Settle(20);
  EXPECT_EQ(engine().Pools()[0].retired, Bytes(512));
  // Everything is rewritten as often as there is room for.
  ASSERT_THAT(engine().Release(caller, lease), IsOk());
  for (uint64_t number = 100; number < 160; ++number) {
    (void)fixture.Put(caller, model, kNoParent, NumberedKey(number));
    fixture.Advance(absl::Milliseconds(5));
  }
  EXPECT_EQ(std::memcmp(targets[2].copies[0].address, content.data(), content.size()), 0);
  engine().ExitSection(section);
  fixture.Settle();
  for (const PoolStatus& pool : engine().Pools()) EXPECT_EQ(pool.retired, Bytes(0));
}

TEST_F(EngineMoves, MovesStopWhileTooManySlotsWaitForReaders) {
  // 5 % of 32 KiB are three slots of 512 bytes, rounded down.
  const SectionId section = engine().EnterSection();
  fixture.PutChain(caller, model, Keys(10, 2));
  for (uint64_t key : {1, 10, 11}) {
    for (int plane = 0; plane < 4; ++plane) {
      fixture.script().Move(model, NumberedKey(key), Plane(plane), PoolId(0), PoolId(1));
      fixture.Settle(20);
    }
  }
  EXPECT_EQ(engine().counters().moves_done, 4u);
  EXPECT_EQ(engine().Pools()[0].retired, Bytes(4 * 512));
  engine().ExitSection(section);
  fixture.Advance(absl::Milliseconds(5));
  fixture.script().Move(model, NumberedKey(11), Plane(3), PoolId(0), PoolId(1));
  fixture.Settle();
  EXPECT_EQ(engine().counters().moves_done, 5u);
}

TEST_F(EngineRules, MovesKeepToTheirByteRate) {
  EngineFixtureOptions options = WithPolicy(PolicyChoice::kScripted);
  options.limits.move_bytes_per_second_max = KiB(10);
  EngineFixture slow(options);
  const Caller own = slow.Attach();
  const ModelId model = slow.Register(own, DenseModel());
  slow.PutChain(own, model, Keys(1, 4));
  for (int round = 0; round < 200; ++round) {
    for (uint64_t key = 1; key <= 4; ++key) {
      for (int plane = 0; plane < 4; ++plane) {
        slow.script().Move(model, NumberedKey(key), Plane(plane), PoolId(round % 2 ? 1 : 0),
                           PoolId(round % 2 ? 0 : 1));
      }
    }
    slow.Advance(absl::Milliseconds(10));
  }
  // Two seconds of 10 KiB, a tenth of a second's saving, and one run of four blocks beyond.
  EXPECT_LE(slow.engine().counters().moved_bytes, 21'504u + 2'048u);
  EXPECT_GE(slow.engine().counters().moved_bytes, 10'240u);
}

// --- limits
// ---------------------------------------------------------------------------------------------------

TEST_F(EngineRules, TablesRefuseBeyondTheirLimitAndNameIt) {
  EngineFixtureOptions options;
  options.limits.sessions_max = 1;
  options.limits.models_max = 1;
  options.limits.leases_max = 1;
  options.limits.reservations_max = 1;
  options.limits.chunks_max = 2;
  options.limits.reserved_bytes_max = KiB(4);
  EngineFixture small(options);
  const Caller own = small.Attach();
  EXPECT_THAT(small.engine().Attach(TenantId(0), small.now()),
              StatusIs(Code::kResourceExhausted, HasSubstr("the limit is 1")));
  const ModelId model = small.Register(own, DenseModel());
  EXPECT_THAT(small.engine().RegisterModel(own, SplitKvModel()),
              StatusIs(Code::kResourceExhausted, HasSubstr("the limit is 1")));
  small.PutChain(own, model, Keys(1, 2));
  (void)small.Lookup(own, model, Keys(1, 2));
  EXPECT_THAT(small.engine().Lookup(own, model, Keys(1, 2), absl::ZeroDuration(), small.now()),
              StatusIs(Code::kResourceExhausted, HasSubstr("the limit is 1")));
  EXPECT_THAT(
      small.engine().Reserve(own, Chunks(model, 3), small.now()),
      StatusIs(Code::kResourceExhausted, AllOf(HasSubstr("3 chunks of 2048"), HasSubstr("4096"))));
  EXPECT_THAT(small.Put(own, model, NumberedKey(2), NumberedKey(3)),
              StatusIs(Code::kResourceExhausted, HasSubstr("the limits are 2 and")));
  ASSERT_THAT(small.engine().Reserve(own, Chunks(model), small.now()), IsOk());
  EXPECT_THAT(small.engine().Reserve(own, Chunks(model), small.now()),
              StatusIs(Code::kResourceExhausted, HasSubstr("the limit is 1")));
}

TEST_F(EngineRules, ABudgetBeyondThePoolIsRefusedAndALowerOneIsReached) {
  const ModelId model = fixture.Register(caller, DenseModel());
  // Three models with slots of their own, so that several segments hold parts of chains.
  const ModelId split = fixture.Register(caller, SplitKvModel());
  fixture.PutChain(caller, model, Keys(1, 12));
  fixture.PutChain(caller, split, Keys(100, 12));
  EXPECT_THAT(engine().SetBudget(PoolId(0), KiB(8) * 5),
              StatusIs(Code::kInvalidArgument, AllOf(HasSubstr("40960"), HasSubstr("32768"))));
  EXPECT_THAT(engine().SetBudget(PoolId(7), KiB(8)),
              StatusIs(Code::kNotFound, HasSubstr("2 pools")));
  ASSERT_OK_AND_ASSIGN(const Bytes before, engine().SetBudget(PoolId(0), KiB(8)));
  EXPECT_EQ(before, KiB(32));
  fixture.Settle();
  EXPECT_EQ(engine().Pools()[0].segments, 1u);
  EXPECT_EQ(fixture.pool(0).segments(), 1u) << "given back to the machine";
  // A chain is only ever cut at its end.
  const uint32_t left = fixture.Matched(caller, model, Keys(1, 12));
  EXPECT_EQ(engine().Totals(std::nullopt).chunks,
            left + fixture.Matched(caller, split, Keys(100, 12)));
}

// However long copies take, and in whatever order they end.
TEST(EngineSettling, WhatBecomesOfBlocksDoesNotDependOnCopies) {
  std::vector<Event> first;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    EngineFixtureOptions options;
    options.copy_seed = seed;
    options.copy_polls_max = static_cast<uint32_t>(4 * seed);
    EngineFixture fixture(options);
    const Caller caller = fixture.Attach();
    const ModelId model = fixture.Register(caller, DenseModel());
    uint32_t rounds = 0;
    for (int chain = 0; chain < 40; ++chain) {
      fixture.PutChain(caller, model, Keys(100 * chain, 4));
      // What was put a while ago comes back up.
      if (chain >= 6) (void)fixture.Lookup(caller, model, Keys(100 * (chain - 6), 4), false);
      while (fixture.engine().SettleRound(fixture.now())) ASSERT_LT(++rounds, 10'000u);
      EXPECT_EQ(fixture.engine().Totals(std::nullopt).moves_in_flight, 0u);
    }
    const std::vector<Event> events = fixture.Events();
    EXPECT_GT(fixture.engine().counters().moves_done, 100u);
    EXPECT_GT(fixture.engine().counters().dropped_chunks, 50u);
    if (first.empty()) first = events;
    EXPECT_TRUE(events == first) << "copy seed " << seed;
  }
}

TEST_F(EngineRules, WrongOptionsNameTheOption) {
  const auto create = [](auto change) {
    EngineFixtureOptions fixture_options;
    EngineOptions options = MakeEngineOptions(fixture_options);
    change(options);
    return Engine::Create(std::move(options)).status();
  };
  EXPECT_THAT(
      create([](EngineOptions& o) { o.limits.chunks_max = 0; }),
      StatusIs(Code::kInvalidArgument, AllOf(HasSubstr("chunks_max is 0"), HasSubstr("1 to"))));
  EXPECT_THAT(create([](EngineOptions& o) { o.limits.retired_share_max = 2; }),
              StatusIs(Code::kInvalidArgument, HasSubstr("retired_share_max is 2")));
  EXPECT_THAT(create([](EngineOptions& o) { o.tenants[0].quota.pop_back(); }),
              StatusIs(Code::kInvalidArgument, HasSubstr("1 quotas for 2 pools")));
  EXPECT_THAT(create([](EngineOptions& o) { o.tenants.clear(); }),
              StatusIs(Code::kInvalidArgument, HasSubstr("0 tenants")));
  EXPECT_THAT(create([](EngineOptions& o) { o.policy.reset(); }), StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(create([](EngineOptions& o) { o.pools[0].budget = GiB(1); }),
              StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(create([](EngineOptions&) {}), IsOk());
}

// --- tenants
// --------------------------------------------------------------------------------------------------

}  // namespace
}  // namespace kvtier::test_support
