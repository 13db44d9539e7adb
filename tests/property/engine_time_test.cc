// The time of accesses, as a policy is told it: the engine's own, or what sessions say of a trace.
// It never goes back, is each tenant's own, and nothing but placement goes by it.
#include "tests/property/engine_rules.h"

namespace kvtier::test_support {
namespace {

class EngineTime : public ::testing::Test {
 protected:
  static EngineFixtureOptions Options() {
    EngineFixtureOptions options;
    options.policy = PolicyChoice::kScripted;
    options.tenants = 2;
    return options;
  }
  Engine& engine() { return fixture.engine(); }
  absl::Status Say(Caller who, absl::Duration logical) {
    return engine().SetLogicalTime(who, logical, fixture.now());
  }
  // When a lookup by `who` is, for the policy.
  absl::Time TouchedAt(Caller who, ModelId of) {
    fixture.script().TakeAccesses();
    EXPECT_EQ(fixture.Matched(who, of, keys), keys.size());
    const auto accesses = fixture.script().TakeAccesses();
    EXPECT_EQ(accesses.size(), 1u);
    EXPECT_EQ(accesses.at(0).what, "touch");
    return accesses.at(0).at;
  }
  absl::Time TouchedAt() { return TouchedAt(caller, model); }

  EngineFixture fixture{Options()};
  Caller caller = fixture.Attach();
  ModelId model = fixture.Register(caller, DenseModel());
  std::vector<wire::ChunkKey> keys = Keys(1, 2);
};

TEST_F(EngineTime, IsTheEnginesOwnAsLongAsNobodySaysOtherwise) {
  fixture.PutChain(caller, model, keys);
  EXPECT_EQ(fixture.script().TakeAccesses().at(0).at, fixture.now());
  for (int i = 0; i < 3; ++i) {
    fixture.Advance(absl::Seconds(1));
    EXPECT_EQ(TouchedAt(), fixture.now());
  }
}

TEST_F(EngineTime, CommitsTouchesAndReadsAreAtTheLogicalTime) {
  const absl::Time start = fixture.now();
  ASSERT_THAT(Say(caller, absl::Hours(5)), IsOk());
  fixture.PutChain(caller, model, keys);
  for (const auto& access : fixture.script().TakeAccesses()) {
    EXPECT_EQ(access.what, "commit");
    EXPECT_EQ(access.at, start) << "counted from where the first one came";
  }
  ASSERT_THAT(Say(caller, absl::Hours(6)), IsOk());
  const LookupResult found = fixture.Lookup(caller, model, keys);
  ASSERT_THAT(Say(caller, absl::Hours(6) + absl::Minutes(1)), IsOk());
  fixture.Advance(absl::Seconds(1));  // the engine's own time does not count now
  const std::vector<uint8_t> mass = {255, 255};
  ASSERT_THAT(
      engine().Report(caller, found.lease, {{.plane = PlaneIndex(0), .steps = 1, .log_mass = mass}},
                      fixture.now()),
      IsOk());
  const auto accesses = fixture.script().TakeAccesses();
  ASSERT_EQ(accesses.size(), 4u);  // a touch; two reads, and a touch by them
  EXPECT_EQ(accesses[0].at, start + absl::Hours(1));
  EXPECT_EQ(accesses[1].what, "read");
  for (size_t i = 1; i < 4; ++i)
    EXPECT_EQ(accesses[i].at, start + absl::Hours(1) + absl::Minutes(1));
  EXPECT_EQ(engine().counters().logical_times, 3u);
}

TEST_F(EngineTime, NeverGoesBackAndIsSharedByTheTenantsSessions) {
  fixture.PutChain(caller, model, keys);
  const absl::Time start = fixture.now();
  const Caller second = fixture.Attach();
  ASSERT_THAT(Say(caller, absl::Seconds(100)), IsOk());
  ASSERT_THAT(Say(second, absl::Seconds(90)), IsOk());
  EXPECT_EQ(TouchedAt(second, model), start) << "older than the newest";
  ASSERT_THAT(Say(second, absl::Seconds(107)), IsOk());
  EXPECT_EQ(TouchedAt(second, model), start + absl::Seconds(7));
  ASSERT_THAT(Say(caller, absl::Seconds(101)), IsOk());
  EXPECT_EQ(TouchedAt(), start + absl::Seconds(7));
  // What a session without one does is at the newest time.
  EXPECT_EQ(TouchedAt(fixture.Attach(), model), start + absl::Seconds(7));
}

TEST_F(EngineTime, GoesOnFromWhereItStandsWhenTheLastSessionWithItEnds) {
  fixture.PutChain(caller, model, keys);
  const absl::Time start = fixture.now();
  const Caller trace = fixture.Attach();
  const Caller worker = fixture.Attach();
  ASSERT_THAT(Say(trace, absl::Seconds(1)), IsOk());
  ASSERT_THAT(Say(worker, absl::Seconds(61)), IsOk());
  ASSERT_THAT(engine().Detach(worker), IsOk());
  fixture.Advance(absl::Seconds(2));
  EXPECT_EQ(TouchedAt(), start + absl::Seconds(60)) << "one is left";
  ASSERT_THAT(engine().Detach(trace), IsOk());
  EXPECT_EQ(TouchedAt(), start + absl::Seconds(60));
  fixture.Advance(absl::Seconds(3));
  EXPECT_EQ(TouchedAt(), start + absl::Seconds(63)) << "the engine's own, ahead by what it was";
  // Another trace begins there, whatever its first time is.
  const Caller again = fixture.Attach();
  ASSERT_THAT(Say(again, absl::Seconds(1)), IsOk());
  EXPECT_EQ(TouchedAt(), start + absl::Seconds(63));
  ASSERT_THAT(Say(again, absl::Seconds(2)), IsOk());
  EXPECT_EQ(TouchedAt(), start + absl::Seconds(64));
  // One that was slower than the engine's time leaves no lead.
  for (int i = 0; i < 4; ++i) {
    for (const Caller who : {caller, again})
      ASSERT_THAT(engine().Heartbeat(who, fixture.now()), IsOk());
    fixture.Advance(absl::Seconds(20));
  }
  ASSERT_THAT(engine().Detach(again), IsOk());
  EXPECT_EQ(TouchedAt(), fixture.now());
}

TEST_F(EngineTime, IsNobodyElsesTimeAndEndsNothing) {
  fixture.PutChain(caller, model, keys);
  const Caller stranger = fixture.Attach(1);
  const ModelId other = fixture.Register(stranger, DenseModel());
  fixture.PutChain(stranger, other, keys);
  const LookupResult lease = fixture.Lookup(caller, model, keys);
  ASSERT_THAT(Say(caller, absl::Seconds(1)), IsOk());
  ASSERT_THAT(Say(caller, Engine::kLogicalTimeMax), IsOk());
  EXPECT_GT(TouchedAt(), fixture.now() + absl::Hours(200'000));
  EXPECT_EQ(TouchedAt(stranger, other), fixture.now());
  fixture.Advance(absl::Milliseconds(1));
  EXPECT_THAT(engine().LeaseChunks(caller, lease.lease), IsOk());
  EXPECT_TRUE(engine().HasSession(stranger));
  const auto refused = StatusIs(Code::kInvalidArgument, HasSubstr("a logical time of"));
  EXPECT_THAT(Say(caller, Engine::kLogicalTimeMax + absl::Microseconds(1)), refused);
  EXPECT_THAT(Say(caller, -absl::Microseconds(1)), refused);
  EXPECT_THAT(Say({TenantId(1), caller.session}, absl::Seconds(1)), StatusIs(Code::kNotFound));
}

}  // namespace
}  // namespace kvtier::test_support
