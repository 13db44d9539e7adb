// Each rule of a block's life on its own, on simulated pools with real bytes: what may be committed, found, read,
// dropped, forgotten and moved, and what an error says. The property test beside this one mixes them all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/block_content.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_models.h"

namespace kvtier::test_support {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Code = absl::StatusCode;

const wire::ChunkKey kNoParent{};

std::vector<wire::ChunkKey> Keys(uint64_t first, size_t count) {
  std::vector<wire::ChunkKey> keys;
  for (size_t i = 0; i < count; ++i) keys.push_back(NumberedKey(first + i));
  return keys;
}

std::vector<EventKind> KindsOf(const std::vector<Event>& events) {
  std::vector<EventKind> kinds;
  for (const Event& event : events) kinds.push_back(event.kind);
  return kinds;
}

// What Reserve is asked for.
ReserveArgs Chunks(ModelId model, uint32_t count = 1, const wire::ChunkKey& parent = {},
                   std::vector<PlaneIndex> planes = {}) {
  ReserveArgs args;
  args.model = model;
  args.parent = parent;
  args.chunk_count = count;
  args.planes = std::move(planes);
  return args;
}

PlaneIndex Plane(int number) { return PlaneIndex(static_cast<uint16_t>(number)); }

class EngineRules : public ::testing::Test {
 protected:
  EngineRules() : EngineRules(EngineFixtureOptions()) {}
  explicit EngineRules(EngineFixtureOptions options) : fixture(std::move(options)) {
    caller = fixture.Attach();
  }

  Engine& engine() { return fixture.engine(); }

  EngineFixture fixture;
  Caller caller;
};

EngineFixtureOptions WithPolicy(PolicyChoice policy) {
  EngineFixtureOptions options;
  options.policy = policy;
  return options;
}

// --- writing --------------------------------------------------------------------------------------------------

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
  ASSERT_OK_AND_ASSIGN(const CommitOutcome outcome, fixture.Put(caller, model, kNoParent, NumberedKey(1)));
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
              StatusIs(Code::kFailedPrecondition, AllOf(HasSubstr("3 of 4 tokens"), HasSubstr(keys[0].ToHex()))));
  // Nor within one reservation.
  ASSERT_OK_AND_ASSIGN(const ReservationId id,
                       engine().Reserve(caller, Chunks(model, 2), fixture.now()));
  ASSERT_THAT(engine().Commit(caller, id, fixture.Fill(caller, id, 0, model, NumberedKey(8), {}, 1), fixture.now()),
              IsOk());
  EXPECT_THAT(engine().Commit(caller, id, fixture.Fill(caller, id, 1, model, NumberedKey(9), {}), fixture.now()),
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
  ASSERT_OK_AND_ASSIGN(const ReservationId id, engine().Reserve(caller, Chunks(model), fixture.now()));
  for (int layer = 0; layer < 4; ++layer) {
    const CommitArgs args = fixture.Fill(caller, id, 0, model, NumberedKey(1), {Plane(layer)});
    ASSERT_OK_AND_ASSIGN(const CommitOutcome outcome, engine().Commit(caller, id, args, fixture.now()));
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
  ASSERT_OK_AND_ASSIGN(const ReservationId id, engine().Reserve(caller, Chunks(model), fixture.now()));
  (void)fixture.Fill(caller, id, 0, model, NumberedKey(1), {});
  EXPECT_EQ(fixture.Matched(caller, model, Keys(1, 1)), 0u);
  EXPECT_GT(fixture.Used(), Bytes(0));
  ASSERT_THAT(engine().Detach(caller), IsOk());
  fixture.Settle();
  EXPECT_EQ(fixture.Used(), Bytes(0));
}

TEST_F(EngineRules, BadReservationsNameWhatIsWrong) {
  const ModelId model = fixture.Register(caller, DenseModel());
  const auto reserve = [&](ReserveArgs args) { return engine().Reserve(caller, args, fixture.now()); };
  EXPECT_THAT(reserve(Chunks(ModelId(9))), StatusIs(Code::kNotFound, HasSubstr("model 9")));
  EXPECT_THAT(reserve(Chunks(model, 0)),
              StatusIs(Code::kInvalidArgument, AllOf(HasSubstr("chunk_count is 0"), HasSubstr("1 to 16384"))));
  EXPECT_THAT(reserve(Chunks(model, 20'000)),
              StatusIs(Code::kInvalidArgument, AllOf(HasSubstr("20000"), HasSubstr("16384"))));
  EXPECT_THAT(reserve(Chunks(model, 1, {}, {Plane(4)})),
              StatusIs(Code::kInvalidArgument, AllOf(HasSubstr("plane 4"), HasSubstr("\"dense\", which has 4"))));
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
    EXPECT_THAT(engine().RegisterModel(caller, spec), StatusIs(Code::kInvalidArgument, HasSubstr(what)));
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
  EXPECT_EQ(fixture.Register(caller, slower), model) << "recompute times are not part of the identity";
  ModelSpec other = DenseModel();
  other.layout_version = "v2";
  EXPECT_NE(fixture.Register(caller, other), model);
}

// --- reading --------------------------------------------------------------------------------------------------

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
      EXPECT_THAT(fixture.Read(caller, found.lease, chunk, keys[chunk]), SizeIs(spec.planes.size()));
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
  const std::vector<PlaneIndex>* planes[] = {&attention, &with_window, &all, &attention, &with_window};
  wire::ChunkKey parent;
  for (size_t i = 0; i < keys.size(); ++i) {
    ASSERT_OK_AND_ASSIGN(const CommitOutcome outcome, fixture.Put(caller, model, parent, keys[i], *planes[i]));
    EXPECT_EQ(outcome, CommitOutcome::kCommitted);
    parent = keys[i];
  }
  // Only after chunk 2 (of 0..4) there are a state and a whole window.
  const std::vector<uint32_t> expected = {0, 0, 3, 3, 3};
  for (size_t count = 1; count <= keys.size(); ++count) {
    EXPECT_EQ(fixture.Matched(caller, model, absl::MakeSpan(keys).subspan(0, count)), expected[count - 1])
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
  EXPECT_THAT(fixture.Read(caller, found.lease, 0, keys[0]), SizeIs(3)) << "an optional plane that is not there";
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
  EXPECT_THAT(engine().Resolve(caller, found.lease, 0, planes, targets),
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
  EXPECT_THAT(engine().Renew(caller, renewed.lease, absl::Seconds(5), fixture.now() + absl::Hours(1)),
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

// --- dropping and forgetting ----------------------------------------------------------------------------------

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
                       AllOf(HasSubstr("pool dram:0"), HasSubstr("tenant \"tenant-0\""), HasSubstr("of 8192 bytes"))));
  EXPECT_EQ(fixture.Matched(caller, model, keys), 7u);
  EXPECT_THAT(engine().Abort(caller, pinned), IsOk());
  for (uint32_t chunk = 0; chunk < 7; ++chunk) (void)fixture.Read(caller, held.lease, chunk, keys[chunk]);
}

TEST_F(EngineEviction, AReservationPinsItsParent) {
  const ModelId model = fixture.Register(caller, DenseModel());
  fixture.PutChain(caller, model, Keys(1, 7));
  // Room for one more chunk, which goes on from a chunk that is alone.
  ASSERT_THAT(engine().Forget(caller, model, Keys(2, 1)), IsOk());
  fixture.Settle();
  ASSERT_OK_AND_ASSIGN(const ReservationId id,
                       engine().Reserve(caller, Chunks(model, 7, NumberedKey(1)),
                                        fixture.now()));
  EXPECT_THAT(engine().Reserve(caller, Chunks(model), fixture.now()), StatusIs(Code::kResourceExhausted));
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
  for (uint32_t chunk = 0; chunk < 4; ++chunk) (void)fixture.Read(caller, held.lease, chunk, keys[chunk]);
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
  EXPECT_THAT(engine().Commit(caller, id, fixture.Fill(caller, id, 0, model, keys[1], {}), fixture.now()),
              StatusIs(Code::kFailedPrecondition, HasSubstr(keys[0].ToHex())));
  EXPECT_THAT(engine().Abort(caller, id), IsOk());
  fixture.Settle();
  EXPECT_EQ(fixture.Used(), Bytes(0));
  EXPECT_EQ(engine().Totals(std::nullopt).chunks, 0u);
}

// --- moves ----------------------------------------------------------------------------------------------------

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
  for (const absl::Status& why : {absl::UnavailableError("the link is down"), absl::CancelledError("not now")}) {
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
  // Nobody else is given the slot: all of the pool's other slots are, and this one is not among them.
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
        slow.script().Move(model, NumberedKey(key), Plane(plane), PoolId(round % 2 ? 1 : 0), PoolId(round % 2 ? 0 : 1));
      }
    }
    slow.Advance(absl::Milliseconds(10));
  }
  // Two seconds of 10 KiB, a tenth of a second's saving, and one run of four blocks beyond.
  EXPECT_LE(engine().counters().moved_bytes, 21'504u + 2'048u);
  EXPECT_LE(slow.engine().counters().moved_bytes, 21'504u + 2'048u);
  EXPECT_GE(slow.engine().counters().moved_bytes, 10'240u);
}

// --- limits ---------------------------------------------------------------------------------------------------

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
  EXPECT_THAT(small.engine().Reserve(own, Chunks(model, 3), small.now()),
              StatusIs(Code::kResourceExhausted, AllOf(HasSubstr("6144"), HasSubstr("4096"))));
  EXPECT_THAT(small.Put(own, model, NumberedKey(2), NumberedKey(3)),
              StatusIs(Code::kResourceExhausted, HasSubstr("the limit is 2")));
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
  EXPECT_THAT(engine().SetBudget(PoolId(7), KiB(8)), StatusIs(Code::kNotFound, HasSubstr("2 pools")));
  ASSERT_OK_AND_ASSIGN(const Bytes before, engine().SetBudget(PoolId(0), KiB(8)));
  EXPECT_EQ(before, KiB(32));
  fixture.Settle();
  EXPECT_EQ(engine().Pools()[0].segments, 1u);
  EXPECT_EQ(fixture.pool(0).segments(), 1u) << "given back to the machine";
  // A chain is only ever cut at its end.
  const uint32_t left = fixture.Matched(caller, model, Keys(1, 12));
  EXPECT_EQ(engine().Totals(std::nullopt).chunks, left + fixture.Matched(caller, split, Keys(100, 12)));
}

TEST_F(EngineRules, WrongOptionsNameTheOption) {
  const auto create = [](auto change) {
    EngineFixtureOptions fixture_options;
    EngineOptions options = MakeEngineOptions(fixture_options);
    change(options);
    return Engine::Create(std::move(options)).status();
  };
  EXPECT_THAT(create([](EngineOptions& o) { o.limits.chunks_max = 0; }),
              StatusIs(Code::kInvalidArgument, AllOf(HasSubstr("chunks_max is 0"), HasSubstr("1 to"))));
  EXPECT_THAT(create([](EngineOptions& o) { o.limits.retired_share_max = 2; }),
              StatusIs(Code::kInvalidArgument, HasSubstr("retired_share_max is 2")));
  EXPECT_THAT(create([](EngineOptions& o) { o.tenants[0].quota.pop_back(); }),
              StatusIs(Code::kInvalidArgument, HasSubstr("1 quotas for 2 pools")));
  EXPECT_THAT(create([](EngineOptions& o) { o.tenants.clear(); }),
              StatusIs(Code::kInvalidArgument, HasSubstr("0 tenants")));
  EXPECT_THAT(create([](EngineOptions& o) { o.policy.reset(); }), StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(create([](EngineOptions& o) { o.pools[0].budget = GiB(1); }), StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(create([](EngineOptions&) {}), IsOk());
}

// --- tenants --------------------------------------------------------------------------------------------------

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
  EXPECT_THAT(engine().Lookup(other, model, keys, std::nullopt, fixture.now()), StatusIs(Code::kNotFound));
  ASSERT_OK_AND_ASSIGN(const CommitOutcome outcome, fixture.Put(other, others_model, kNoParent, keys[0]));
  EXPECT_EQ(outcome, CommitOutcome::kCommitted) << "not ALREADY_EXISTS: that would tell of the other's chunk";
  const LookupResult own = fixture.Lookup(caller, model, keys);
  const LookupResult others = fixture.Lookup(other, others_model, keys);
  EXPECT_EQ(own.matched, 2u);
  EXPECT_EQ(others.matched, 1u);
  (void)fixture.Read(caller, own.lease, 0, keys[0]);  // each reads its own bytes
  (void)fixture.Read(other, others.lease, 0, keys[0]);
}

TEST_F(EngineTenants, ATenantCannotUseForgetOrListWhatIsAnothers) {
  const auto keys = Keys(1, 2);
  fixture.PutChain(caller, model, keys);
  const LookupResult held = fixture.Lookup(caller, model, keys);
  ASSERT_OK_AND_ASSIGN(const ReservationId reserved, engine().Reserve(caller, Chunks(model), fixture.now()));
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

// --- the event log and placement ------------------------------------------------------------------------------

TEST(EventLogTest, ReadingResumesAndAGapShows) {
  EventLog log(4);
  std::vector<Event> events;
  EXPECT_EQ(log.last_sequence(), 0u);
  EXPECT_EQ(log.first_sequence(), 1u);
  log.Read(0, 10, events);
  EXPECT_THAT(events, IsEmpty());
  for (uint64_t i = 1; i <= 3; ++i) log.Append({.kind = EventKind::kCommitted, .key = NumberedKey(i), .model = {}, .plane = {}, .pool = {}});
  log.Read(1, 1, events);
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].sequence, 2u);
  EXPECT_EQ(events[0].key, NumberedKey(2));
  for (uint64_t i = 4; i <= 9; ++i) log.Append({.kind = EventKind::kDropped, .key = NumberedKey(i), .model = {}, .plane = {}, .pool = {}});
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
