// Writing and reading: what may be committed, found, leased and read, and what an error says. Each
// rule on its own; the property test beside this one mixes them all.
#include "tests/property/engine_rules.h"

namespace kvtier::test_support {
namespace {

// --- writing
// --------------------------------------------------------------------------------------------------

TEST_F(EngineRules, AParentMustBeCommittedAndTheErrorNamesIt) {
  const ModelId model = fixture.Register(caller, DenseModel());
  const wire::ChunkKey parent = NumberedKey(1);
  EXPECT_THAT(engine().Reserve(caller, Chunks(model, 1, parent), fixture.now()),
              StatusIs(Code::kFailedPrecondition, HasSubstr(parent.ToHex())));
  EXPECT_EQ(fixture.Used(), Bytes(0));
}

TEST_F(EngineRules, ChunksOfAReservationAreCommittedInOrder) {
  const ModelId model = fixture.Register(caller, DenseModel());
  ASSERT_OK_AND_ASSIGN(const ReservationId id,
                       engine().Reserve(caller, Chunks(model, 2), fixture.now()));
  const CommitArgs second = fixture.Fill(caller, id, 1, model, NumberedKey(2), {});
  EXPECT_THAT(engine().Commit(caller, id, second, fixture.now()),
              StatusIs(Code::kFailedPrecondition, HasSubstr("chunk 0, is not committed")));
  const CommitArgs first = fixture.Fill(caller, id, 0, model, NumberedKey(1), {});
  EXPECT_THAT(engine().Commit(caller, id, first, fixture.now()), IsOk());
  EXPECT_THAT(engine().Commit(caller, id, second, fixture.now()), IsOk());
  EXPECT_EQ(fixture.Matched(caller, model, Keys(1, 2)), 2u);
}

TEST_F(EngineRules, ALostRaceIsAlreadyExistsAndFreesTheSlots) {
  const ModelId model = fixture.Register(caller, DenseModel());
  fixture.PutChain(caller, model, Keys(1, 1));
  const Bytes used = fixture.Used();
  ASSERT_OK_AND_ASSIGN(const CommitOutcome outcome,
                       fixture.Put(caller, model, kNoParent, NumberedKey(1)));
  EXPECT_EQ(outcome, CommitOutcome::kAlreadyExists);
  fixture.Settle();
  EXPECT_EQ(fixture.Used(), used);
  EXPECT_EQ(engine().counters().already_existing_chunks, 1u);
}

TEST_F(EngineRules, ExistingChunksKeepTheirParentAndTokenCount) {
  const ModelId model = fixture.Register(caller, DenseModel());
  fixture.PutChain(caller, model, Keys(1, 2));
  EXPECT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(2)),
              StatusIs(Code::kInvalidArgument, HasSubstr("another parent")));
  EXPECT_THAT(fixture.Put(caller, model, NumberedKey(1), NumberedKey(2), {}, 3),
              StatusIs(Code::kInvalidArgument, HasSubstr("with 4 tokens, not 3")));
}

TEST_F(EngineRules, APartialTailIsALeaf) {
  const ModelId model = fixture.Register(caller, DenseModel());
  const auto keys = Keys(1, 2);
  ASSERT_THAT(fixture.Put(caller, model, kNoParent, keys[0], {}, kTestChunkTokens - 1), IsOk());
  EXPECT_EQ(fixture.Matched(caller, model, keys), 1u);
  EXPECT_THAT(engine().Reserve(caller, Chunks(model, 1, keys[0]), fixture.now()),
              StatusIs(Code::kFailedPrecondition,
                       AllOf(HasSubstr("3 of 4 tokens"), HasSubstr(keys[0].ToHex()))));
  // Nor within one reservation.
  ASSERT_OK_AND_ASSIGN(const ReservationId id,
                       engine().Reserve(caller, Chunks(model, 2), fixture.now()));
  ASSERT_THAT(engine().Commit(caller, id, fixture.Fill(caller, id, 0, model, NumberedKey(8), {}, 1),
                              fixture.now()),
              IsOk());
  EXPECT_THAT(engine().Commit(caller, id, fixture.Fill(caller, id, 1, model, NumberedKey(9), {}),
                              fixture.now()),
              StatusIs(Code::kFailedPrecondition, HasSubstr("leaf")));
}

TEST_F(EngineRules, RanksCommitTheirPlanesApartAndAChunkShowsWhenAllAreThere) {
  const ModelSpec spec = TwoRankModel();
  const ModelId model = fixture.Register(caller, spec);
  const Caller other = fixture.Attach();
  const auto keys = Keys(1, 2);
  // Rank 0 stores both chunks before rank 1 stores any: it need not wait.
  wire::ChunkKey parent;
  for (const wire::ChunkKey& key : keys) {
    ASSERT_OK_AND_ASSIGN(const CommitOutcome outcome,
                         fixture.Put(caller, model, parent, key, PlanesOfRank(spec, 0)));
    EXPECT_EQ(outcome, CommitOutcome::kPartial);
    parent = key;
  }
  EXPECT_EQ(fixture.Matched(caller, model, keys), 0u);
  EXPECT_THAT(fixture.Events(), IsEmpty());
  parent = {};
  for (const wire::ChunkKey& key : keys) {
    ASSERT_OK_AND_ASSIGN(const CommitOutcome outcome,
                         fixture.Put(other, model, parent, key, PlanesOfRank(spec, 1)));
    EXPECT_EQ(outcome, CommitOutcome::kCommitted);
    parent = key;
  }
  EXPECT_EQ(fixture.Matched(caller, model, keys), 2u);
  EXPECT_THAT(KindsOf(fixture.Events()), ElementsAre(EventKind::kCommitted, EventKind::kCommitted));
}

TEST_F(EngineRules, LayersMayBeCommittedOneByOne) {
  const ModelId model = fixture.Register(caller, DenseModel());
  ASSERT_OK_AND_ASSIGN(const ReservationId id,
                       engine().Reserve(caller, Chunks(model), fixture.now()));
  for (int layer = 0; layer < 4; ++layer) {
    const CommitArgs args = fixture.Fill(caller, id, 0, model, NumberedKey(1), {Plane(layer)});
    ASSERT_OK_AND_ASSIGN(const CommitOutcome outcome,
                         engine().Commit(caller, id, args, fixture.now()));
    EXPECT_EQ(outcome, layer == 3 ? CommitOutcome::kCommitted : CommitOutcome::kPartial);
    if (layer < 3) {
      EXPECT_THAT(engine().Commit(caller, id, args, fixture.now()),
                  StatusIs(Code::kFailedPrecondition, HasSubstr("committed already")));
      EXPECT_THAT(engine().Target(caller, id, 0, Plane(layer)),
                  StatusIs(Code::kFailedPrecondition, HasSubstr("never change")));
    }
  }
  // All of it is committed, so the reservation is over.
  EXPECT_THAT(engine().Abort(caller, id), StatusIs(Code::kNotFound));
  EXPECT_EQ(engine().Totals(std::nullopt).reservations, 0u);
}

TEST_F(EngineRules, AnIncompleteChunkEndsWithItsSession) {
  const ModelSpec spec = TwoRankModel();
  const ModelId model = fixture.Register(caller, spec);
  const Caller other = fixture.Attach();
  ASSERT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(1), PlanesOfRank(spec, 0)), IsOk());
  ASSERT_THAT(engine().Detach(caller), IsOk());
  fixture.Settle();
  EXPECT_EQ(fixture.Used(), Bytes(0));
  // What the other rank brings later starts anew.
  ASSERT_OK_AND_ASSIGN(const CommitOutcome outcome,
                       fixture.Put(other, model, kNoParent, NumberedKey(1), PlanesOfRank(spec, 1)));
  EXPECT_EQ(outcome, CommitOutcome::kPartial);
}

TEST_F(EngineRules, AnIncompleteChunkEndsWithItsTime) {
  const ModelSpec spec = TwoRankModel();
  const ModelId model = fixture.Register(caller, spec);
  ASSERT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(1), PlanesOfRank(spec, 0)), IsOk());
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(engine().Totals(std::nullopt).chunks, 1u);
    ASSERT_THAT(engine().Heartbeat(caller, fixture.now()), IsOk());
    fixture.Advance(absl::Seconds(10));
  }
  EXPECT_EQ(engine().Totals(std::nullopt).chunks, 0u);
  EXPECT_EQ(engine().counters().incomplete_dropped_chunks, 1u);
}

TEST_F(EngineRules, NobodyReadsWhatWasNotCommitted) {
  const ModelId model = fixture.Register(caller, DenseModel());
  ASSERT_OK_AND_ASSIGN(const ReservationId id,
                       engine().Reserve(caller, Chunks(model), fixture.now()));
  (void)fixture.Fill(caller, id, 0, model, NumberedKey(1), {});
  EXPECT_EQ(fixture.Matched(caller, model, Keys(1, 1)), 0u);
  EXPECT_GT(fixture.Used(), Bytes(0));
  ASSERT_THAT(engine().Detach(caller), IsOk());
  fixture.Settle();
  EXPECT_EQ(fixture.Used(), Bytes(0));
}

TEST_F(EngineRules, BadReservationsNameWhatIsWrong) {
  const ModelId model = fixture.Register(caller, DenseModel());
  const auto reserve = [&](ReserveArgs args) {
    return engine().Reserve(caller, args, fixture.now());
  };
  EXPECT_THAT(reserve(Chunks(ModelId(9))), StatusIs(Code::kNotFound, HasSubstr("model 9")));
  EXPECT_THAT(reserve(Chunks(model, 0)),
              StatusIs(Code::kInvalidArgument,
                       AllOf(HasSubstr("chunk_count is 0"), HasSubstr("1 to 16384"))));
  EXPECT_THAT(reserve(Chunks(model, 20'000)),
              StatusIs(Code::kInvalidArgument, AllOf(HasSubstr("20000"), HasSubstr("16384"))));
  EXPECT_THAT(reserve(Chunks(model, 1, {}, {Plane(4)})),
              StatusIs(Code::kInvalidArgument,
                       AllOf(HasSubstr("plane 4"), HasSubstr("\"dense\", which has 4"))));
  EXPECT_THAT(reserve(Chunks(model, 1, {}, {Plane(1), Plane(1)})),
              StatusIs(Code::kInvalidArgument, HasSubstr("named twice")));
  EXPECT_THAT(engine().Reserve({caller.tenant, SessionId(7)}, Chunks(model), fixture.now()),
              StatusIs(Code::kNotFound, HasSubstr("session 7")));
  EXPECT_EQ(fixture.Used(), Bytes(0));
}

TEST_F(EngineRules, BadCommitsNameWhatIsWrongAndLeaveTheChunkReserved) {
  const ModelId model = fixture.Register(caller, DenseModel());
  ASSERT_OK_AND_ASSIGN(
      const ReservationId id,
      engine().Reserve(caller, Chunks(model, 1, {}, {Plane(0), Plane(1)}), fixture.now()));
  const CommitArgs good = fixture.Fill(caller, id, 0, model, NumberedKey(1), {Plane(0), Plane(1)});
  const auto expect_bad = [&](const CommitArgs& args, const std::string& what) {
    EXPECT_THAT(engine().Commit(caller, id, args, fixture.now()),
                StatusIs(Code::kInvalidArgument, HasSubstr(what)));
    EXPECT_EQ(engine().Totals(std::nullopt).chunks, 0u);
  };
  CommitArgs args = good;
  args.chunk = 1;
  expect_bad(args, "the reservation has 1 chunks");
  args = good;
  args.token_count = 5;
  expect_bad(args, "token_count is 5; 1 to 4");
  args.token_count = 0;
  expect_bad(args, "token_count is 0; 1 to 4");
  args = good;
  args.key = {};
  expect_bad(args, "key is zero");
  args = good;
  args.planes = {Plane(0), Plane(2)};
  expect_bad(args, "plane 2 is not in the reservation");
  args.planes = {Plane(0), Plane(40)};
  expect_bad(args, "plane 40 does not belong");
  args.planes = {Plane(0), Plane(0)};
  expect_bad(args, "named twice");
  args = good;
  args.checksums.pop_back();
  expect_bad(args, "1 checksums for 2 planes");
  args = good;
  args.parent = NumberedKey(77);
  expect_bad(args, NumberedKey(77).ToHex());
  EXPECT_THAT(engine().Target(caller, id, 1, Plane(0)), StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(engine().Target(caller, id, 0, Plane(3)), StatusIs(Code::kInvalidArgument));
  // It can still be committed.
  EXPECT_THAT(engine().Commit(caller, id, good, fixture.now()), IsOk());
}

TEST_F(EngineRules, BadModelsNameWhatIsWrong) {
  const auto expect_bad = [&](const ModelSpec& spec, const std::string& what) {
    EXPECT_THAT(engine().RegisterModel(caller, spec),
                StatusIs(Code::kInvalidArgument, HasSubstr(what)));
  };
  ModelSpec spec = DenseModel();
  spec.planes[2].bytes_per_chunk = KiB(8) + Bytes(1);
  expect_bad(spec, "bytes_per_chunk is 8193; 1 to 8192");
  spec = DenseModel();
  spec.planes[1].name = spec.planes[0].name;
  expect_bad(spec, "two planes are named \"layer.0.kv\"");
  spec = DenseModel();
  spec.chunk_tokens = 0;
  expect_bad(spec, "chunk_tokens is 0");
  spec = DenseModel();
  spec.planes.clear();
  expect_bad(spec, "0 planes; 1 to 1024");
  spec = WindowModel();
  spec.planes[1].window_tokens = 0;
  expect_bad(spec, "window_tokens is 0");
  spec = LatentModel();
  for (PlaneSpec& plane : spec.planes) plane.required = false;
  expect_bad(spec, "required");
}

TEST_F(EngineRules, TheSameModelHasOneIdAndOtherGeometryAnother) {
  const ModelId model = fixture.Register(caller, DenseModel());
  EXPECT_EQ(fixture.Register(caller, DenseModel()), model);
  ModelSpec slower = DenseModel();
  slower.recompute.clear();
  EXPECT_EQ(fixture.Register(caller, slower), model)
      << "recompute times are not part of the identity";
  ModelSpec other = DenseModel();
  other.layout_version = "v2";
  EXPECT_NE(fixture.Register(caller, other), model);
}

// --- reading
// --------------------------------------------------------------------------------------------------

TEST_F(EngineRules, WhatWasWrittenIsReadInEveryModel) {
  uint64_t number = 100;
  for (const ModelSpec& spec : AllTestModels()) {
    SCOPED_TRACE(spec.name);
    const ModelId model = fixture.Register(caller, spec);
    const auto keys = Keys(number += 10, 3);
    fixture.PutChain(caller, model, keys);
    const LookupResult found = fixture.Lookup(caller, model, keys);
    ASSERT_EQ(found.matched, 3u);
    for (uint32_t chunk = 0; chunk < 3; ++chunk) {
      EXPECT_THAT(fixture.Read(caller, found.lease, chunk, keys[chunk]),
                  SizeIs(spec.planes.size()));
    }
    EXPECT_THAT(engine().Release(caller, found.lease), IsOk());
  }
}

TEST_F(EngineRules, FullAttentionNeedsEveryChunkOfThePrefix) {
  const ModelId model = fixture.Register(caller, DenseModel());
  const auto keys = Keys(1, 4);
  fixture.PutChain(caller, model, absl::MakeSpan(keys).subspan(0, 2));
  EXPECT_EQ(fixture.Matched(caller, model, keys), 2u);
  // A chunk that does not hang on the one before does not continue it.
  ASSERT_THAT(fixture.Put(caller, model, kNoParent, NumberedKey(50)), IsOk());
  ASSERT_THAT(fixture.Put(caller, model, NumberedKey(50), keys[2]), IsOk());
  EXPECT_EQ(fixture.Matched(caller, model, keys), 2u);
}

TEST_F(EngineRules, AStateIsNeededInTheLastChunkAndAWindowInTheLastOnes) {
  const ModelSpec spec = RecurrentModel();
  const ModelId model = fixture.Register(caller, spec);
  const auto keys = Keys(1, 5);
  const std::vector<PlaneIndex> attention = {Plane(0), Plane(1)};
  const std::vector<PlaneIndex> all = {Plane(0), Plane(1), Plane(2), Plane(3)};
  const std::vector<PlaneIndex> with_window = {Plane(0), Plane(1), Plane(3)};
  // The window of 8 tokens spans two chunks. State at 2 and 3 only, window at 1, 2 and 4.
  const std::vector<PlaneIndex>* planes[] = {&attention, &with_window, &all, &attention,
                                             &with_window};
  wire::ChunkKey parent;
  for (size_t i = 0; i < keys.size(); ++i) {
    ASSERT_OK_AND_ASSIGN(const CommitOutcome outcome,
                         fixture.Put(caller, model, parent, keys[i], *planes[i]));
    EXPECT_EQ(outcome, CommitOutcome::kCommitted);
    parent = keys[i];
  }
  // Only after chunk 2 (of 0..4) there are a state and a whole window.
  const std::vector<uint32_t> expected = {0, 0, 3, 3, 3};
  for (size_t count = 1; count <= keys.size(); ++count) {
    EXPECT_EQ(fixture.Matched(caller, model, absl::MakeSpan(keys).subspan(0, count)),
              expected[count - 1])
        << count << " chunks";
  }
  // The missing state and window of chunk 3 and the state of chunk 4 come later.
  ASSERT_OK_AND_ASSIGN(const CommitOutcome added,
                       fixture.Put(caller, model, keys[3], keys[4], {Plane(2)}));
  EXPECT_EQ(added, CommitOutcome::kCommitted);
  EXPECT_EQ(fixture.Matched(caller, model, keys), 3u) << "the window is still missing in chunk 3";
  ASSERT_THAT(fixture.Put(caller, model, keys[2], keys[3], {Plane(3)}), IsOk());
  EXPECT_EQ(fixture.Matched(caller, model, keys), 5u);
}

TEST_F(EngineRules, AnIndexIsNeverNeeded) {
  const ModelSpec spec = LatentModel();
  const ModelId model = fixture.Register(caller, spec);
  const auto keys = Keys(1, 2);
  ASSERT_THAT(fixture.Put(caller, model, kNoParent, keys[0], RequiredPlanes(spec)), IsOk());
  ASSERT_THAT(fixture.Put(caller, model, keys[0], keys[1]), IsOk());
  const LookupResult found = fixture.Lookup(caller, model, keys);
  EXPECT_EQ(found.matched, 2u);
  EXPECT_THAT(fixture.Read(caller, found.lease, 0, keys[0]), SizeIs(3))
      << "an optional plane that is not there";
  EXPECT_THAT(fixture.Read(caller, found.lease, 1, keys[1]), SizeIs(4));
  std::vector<ReadTarget> asked;
  const PlaneIndex index[] = {Plane(3)};
  ASSERT_THAT(engine().Resolve(caller, found.lease, 0, index, asked), IsOk());
  EXPECT_THAT(asked, ElementsAre(Field(&ReadTarget::copy_count, 0)));
}

TEST_F(EngineRules, BadReadsNameWhatIsWrong) {
  const ModelId model = fixture.Register(caller, DenseModel());
  fixture.PutChain(caller, model, Keys(1, 1));
  const LookupResult found = fixture.Lookup(caller, model, Keys(1, 1));
  std::vector<ReadTarget> targets;
  EXPECT_THAT(engine().Resolve(caller, found.lease, 1, {}, targets),
              StatusIs(Code::kInvalidArgument, HasSubstr("has 1 chunks")));
  const PlaneIndex planes[] = {Plane(4)};
  EXPECT_THAT(
      engine().Resolve(caller, found.lease, 0, planes, targets),
      StatusIs(Code::kInvalidArgument, AllOf(HasSubstr("plane 4"), HasSubstr("which has 4"))));
  const std::vector<wire::ChunkKey> many(16'385, NumberedKey(1));
  EXPECT_THAT(engine().Lookup(caller, model, many, std::nullopt, fixture.now()),
              StatusIs(Code::kInvalidArgument, AllOf(HasSubstr("16385"), HasSubstr("16384"))));
  const Caller other = fixture.Attach();
  EXPECT_THAT(engine().Release(other, found.lease), StatusIs(Code::kNotFound, HasSubstr("lease")));
  EXPECT_THAT(targets, IsEmpty());
}

TEST_F(EngineRules, ALeaseEndsByItsTimeUnlessRenewed) {
  const ModelId model = fixture.Register(caller, DenseModel());
  fixture.PutChain(caller, model, Keys(1, 1));
  const auto lease_for = [&](absl::Duration ttl) {
    auto found = engine().Lookup(caller, model, Keys(1, 1), ttl, fixture.now());
    EXPECT_THAT(found, IsOk());
    return *found;
  };
  const LookupResult short_one = lease_for(absl::Seconds(2));
  const LookupResult renewed = lease_for(absl::Seconds(2));
  EXPECT_EQ(short_one.lease_ttl, absl::Seconds(2));
  EXPECT_EQ(lease_for(absl::Hours(100)).lease_ttl, absl::Minutes(10)) << "the limit";
  EXPECT_EQ(lease_for(absl::ZeroDuration()).lease_ttl, absl::Seconds(60)) << "the default";
  fixture.Advance(absl::Seconds(1));
  ASSERT_OK_AND_ASSIGN(const absl::Duration granted,
                       engine().Renew(caller, renewed.lease, absl::Seconds(20), fixture.now()));
  EXPECT_EQ(granted, absl::Seconds(20));
  fixture.Advance(absl::Seconds(2));
  EXPECT_THAT(engine().LeaseChunks(caller, short_one.lease), StatusIs(Code::kNotFound));
  EXPECT_THAT(engine().LeaseChunks(caller, renewed.lease), IsOk());
  EXPECT_EQ(engine().counters().leases_expired, 1u);
  // Late, and before any tick noticed.
  EXPECT_THAT(
      engine().Renew(caller, renewed.lease, absl::Seconds(5), fixture.now() + absl::Hours(1)),
      StatusIs(Code::kFailedPrecondition, HasSubstr("ended")));
}

TEST_F(EngineRules, ASessionThatIsNotHeardOfEndsWithAllItHolds) {
  const ModelId model = fixture.Register(caller, DenseModel());
  fixture.PutChain(caller, model, Keys(1, 1));
  const Bytes used = fixture.Used();
  (void)fixture.Lookup(caller, model, Keys(1, 1));
  ASSERT_THAT(engine().Reserve(caller, Chunks(model, 1, NumberedKey(1)), fixture.now()), IsOk());
  EXPECT_GT(fixture.Used(), used);
  fixture.Advance(absl::Seconds(29));
  EXPECT_EQ(engine().Totals(TenantId(0)).sessions, 1u);
  fixture.Advance(absl::Seconds(2));
  fixture.Settle();
  const EngineTotals totals = engine().Totals(std::nullopt);
  EXPECT_EQ(totals.sessions + totals.leases + totals.reservations, 0u);
  EXPECT_EQ(totals.chunks, 1u) << "what is committed stays";
  EXPECT_EQ(fixture.Used(), used);
  EXPECT_THAT(engine().Heartbeat(caller, fixture.now()), StatusIs(Code::kNotFound));
}

// --- dropping and forgetting
// ----------------------------------------------------------------------------------

}  // namespace
}  // namespace kvtier::test_support
