// What clients of shared memory cost the engine: how often it looks at their sections, and what
// others lose while one of them stays in a section.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/wire/client_page.h"
#include "proto/wire/index_reader.h"
#include "tests/property/engine_rules.h"

namespace kvtier::test_support {
namespace {

class EngineReclaim : public ::testing::Test {
 protected:
  void Start(const EngineFixtureOptions& options) {
    callers_.clear();
    fixture_ = std::make_unique<EngineFixture>(options);
    page_ = std::make_unique<wire::ClientPage>();
    for (uint16_t tenant = 0; tenant < options.tenants; ++tenant)
      callers_.push_back(fixture_->Attach(tenant));
  }
  static EngineFixtureOptions Shared(std::vector<uint32_t> segments, uint16_t tenants = 1) {
    EngineFixtureOptions options;
    options.shared = true;
    options.segments = std::move(segments);
    options.tenants = tenants;
    return options;
  }
  Engine& engine() { return fixture_->engine(); }
  void Attach(Caller caller) { ASSERT_THAT(engine().AttachShared(caller, page_.get()), IsOk()); }
  // A section of the attached client, which never ends.
  void EnterSection(Caller caller) {
    std::string why;
    const auto index =
        wire::IndexReader::Create(fixture_->index_memory()[caller.tenant.value()]->bytes(), why);
    ASSERT_TRUE(index.has_value()) << why;
    wire::EnterSection(index->retire_epoch(), *page_, 0);
  }
  static ModelSpec ManyPlanes(size_t planes) {
    ModelSpec spec = DenseModel();
    spec.planes.resize(planes, spec.planes[0]);
    for (size_t i = 0; i < planes; ++i) {
      spec.planes[i].name = "plane" + std::to_string(i);
      spec.planes[i].layer = static_cast<uint32_t>(i);
    }
    return spec;
  }
  size_t Dropped(uint16_t tenant = 0) {
    size_t dropped = 0;
    for (const Event& event : fixture_->Events(tenant))
      dropped += event.kind == EventKind::kDropped;
    return dropped;
  }
  void PutOne(Caller caller, ModelId model) {
    EXPECT_THAT(fixture_->Put(caller, model, kNoParent, NumberedKey(++numbered_)), IsOk());
  }
  // Chunks of their own, from key number `first` on, until one is dropped. Returns how many.
  size_t PutUntilFull(Caller caller, ModelId model, uint64_t first) {
    size_t put = 0;
    while (Dropped(caller.tenant.value()) == 0) {
      EXPECT_THAT(fixture_->Put(caller, model, kNoParent, NumberedKey(first + put)), IsOk());
      ++put;
    }
    return put;
  }

  uint64_t numbered_ = 10'000;  // keys of PutOne
  std::vector<Caller> callers_;
  std::unique_ptr<wire::ClientPage> page_;
  std::unique_ptr<EngineFixture> fixture_;
};

TEST_F(EngineReclaim, ALargeReservationInAFullPoolLooksAtReadersAFewTimes) {
  EngineFixtureOptions options = Shared({80});
  options.segment_bytes = KiB(64);
  Start(options);
  const Caller caller = callers_[0];
  const ModelId model = fixture_->Register(caller, ManyPlanes(32));
  ASSERT_GT(PutUntilFull(caller, model, 1), 256u);
  Attach(caller);
  const uint64_t before = engine().counters().section_scans;
  const size_t dropped = Dropped();
  ASSERT_THAT(engine().Reserve(caller, Chunks(model, 256), fixture_->now()), IsOk());
  // One that finds what is retired already, and then for 1, 2, 4, ... dropped chunks each.
  EXPECT_LE(engine().counters().section_scans - before, 10u);
  EXPECT_GE(engine().counters().section_scans - before, 2u);
  EXPECT_LE(Dropped() - dropped, 256u) << "more than was needed";
  engine().CheckInvariants();
}

TEST_F(EngineReclaim, ATickLooksAtReadersAFewTimes) {
  EngineFixtureOptions options = Shared({64, 64});
  options.policy = PolicyChoice::kLru;
  Start(options);
  const Caller caller = callers_[0];
  const ModelId model = fixture_->Register(caller, DenseModel());
  PutUntilFull(caller, model, 1);
  Attach(caller);
  uint64_t scans = engine().counters().section_scans, most = 0;
  for (uint64_t number = 0; number < 400; ++number) {
    if (number % 20 == 0) {
      fixture_->Advance(absl::Milliseconds(5));
      most = std::max(most, engine().counters().section_scans - scans);
    }
    (void)fixture_->Put(caller, model, kNoParent, NumberedKey(10'000 + number));
    scans = engine().counters().section_scans;
  }
  EXPECT_GT(fixture_->engine().counters().moves_done, 0u);
  EXPECT_LE(most, 1u + 8u);
  EXPECT_GE(most, 1u);
}

TEST_F(EngineReclaim, MovesIntoAFullPoolLookAtReadersAFewTimesATick) {
  EngineFixtureOptions options = Shared({8, 8});
  options.policy = PolicyChoice::kScripted;
  Start(options);
  const Caller caller = callers_[0];
  // Sixteen to a segment: both pools are full.
  const ModelId model = fixture_->Register(caller, ManyPlanes(1));
  for (const wire::ChunkKey& key : Keys(1, 256))
    ASSERT_THAT(fixture_->Put(caller, model, kNoParent, key), IsOk());
  Attach(caller);
  const uint64_t before = engine().counters().section_scans;
  for (const wire::ChunkKey& key : Keys(1, 64))
    fixture_->script().Move(model, key, Plane(0), PoolId(0), PoolId(1));
  fixture_->Advance(absl::Milliseconds(5));
  EXPECT_GE(engine().counters().section_scans - before, 3u);
  EXPECT_LE(engine().counters().section_scans - before, 1u + 8u);
  EXPECT_GE(engine().counters().moves_started, 16u);
}

TEST_F(EngineReclaim, NobodyIsLookedAtForAnotherTenantsRoom) {
  Start(Shared({8}, 2));
  ModelId models[2];
  for (int i = 0; i < 2; ++i) models[i] = fixture_->Register(callers_[i], DenseModel());
  Attach(callers_[0]);
  const wire::ChunkKey key = NumberedKey(1);
  fixture_->PutChain(callers_[0], models[0], {key});
  EXPECT_THAT(engine().Forget(callers_[0], models[0], {&key, 1}), IsOk());
  const Bytes waiting = engine().Pools()[0].retired;
  ASSERT_GT(waiting, Bytes(0));
  PutUntilFull(callers_[1], models[1], 100);
  EXPECT_EQ(engine().Pools()[0].retired, waiting);
  fixture_->Advance(absl::Milliseconds(5));
  EXPECT_EQ(engine().Pools()[0].retired, Bytes(0));
}

// A tenant whose readers hold all that may wait cannot move anything, however much of it is due;
// what the other tenants have due goes on, whoever comes first.
TEST_F(EngineReclaim, AtTheCapOfOneTenantMovesOfTheOtherGoOn) {
  for (const uint16_t stuck : {0, 1}) {
    EngineFixtureOptions options = Shared({32, 64}, 2);
    options.quota_segments = {16, 32};
    options.limits.retired_share_max = 0.001;
    options.limits.moves_in_flight_max = 4;
    Start(options);
    for (const Caller caller : callers_) {
      const ModelId model = fixture_->Register(caller, DenseModel());
      for (int chunk = 0; chunk < 64; ++chunk) PutOne(caller, model);
    }
    Attach(callers_[stuck]);
    EnterSection(callers_[stuck]);
    for (int tick = 0; tick < 200; ++tick) fixture_->Advance(absl::Milliseconds(5));
    const std::vector<PoolStatus::Tenant> tenants = engine().Pools()[0].tenants;
    EXPECT_GT(tenants[stuck].used, options.segment_bytes * 15) << "it is not stuck";
    EXPECT_LE(tenants[1 - stuck].used, options.segment_bytes * 14) << "stuck: " << stuck;
    engine().CheckInvariants();
  }
}

// What the chunks of two tenants become when a budget is halved, and one has a section that does
// not end.
class EngineStuckSection : public EngineReclaim {
 protected:
  struct Outcome {
    size_t dropped[2] = {0, 0};
    uint64_t segments = 0;  // when the section's process has ended
  };
  Outcome Halve(const EngineFixtureOptions& options, bool stuck) {
    Start(options);
    for (const Caller caller : callers_) {
      const ModelId model = fixture_->Register(caller, DenseModel());
      for (uint64_t number = 1; number <= 30; ++number)
        EXPECT_THAT(fixture_->Put(caller, model, kNoParent, NumberedKey(number)), IsOk());
    }
    Attach(callers_[0]);
    if (stuck) EnterSection(callers_[0]);
    EXPECT_THAT(engine().SetBudget(PoolId(0), options.segment_bytes * 8), IsOk());
    for (int tick = 0; tick < 300; ++tick) fixture_->Advance(absl::Milliseconds(5));
    engine().CheckInvariants();
    Outcome outcome;
    for (uint16_t tenant = 0; tenant < 2; ++tenant) outcome.dropped[tenant] = Dropped(tenant);
    engine().EndShared(engine().SharedClients()[0].client);
    fixture_->Advance(absl::Milliseconds(5));
    outcome.segments = engine().Pools()[0].segments;
    return outcome;
  }
};

TEST_F(EngineStuckSection, ALoweredBudgetCostsTheOtherTenantNoMoreThanItsShare) {
  // Eight segments of four chunks for each tenant.
  const EngineFixtureOptions options = Shared({16}, 2);
  const Outcome free = Halve(options, false);
  const Outcome stuck = Halve(options, true);
  EXPECT_GT(free.dropped[1], 8u);
  EXPECT_LE(stuck.dropped[1], free.dropped[1]);
  EXPECT_LE(stuck.dropped[0], free.dropped[0]);
  EXPECT_LE(stuck.segments, 8u);
}

TEST_F(EngineStuckSection, ALoweredBudgetOfAFastPoolDropsNothingOfTheOtherTenant) {
  EngineFixtureOptions options = Shared({16, 32}, 2);
  options.limits.retired_share_max = 0.01;
  const Outcome free = Halve(options, false);
  const Outcome stuck = Halve(options, true);
  EXPECT_EQ(free.dropped[0] + free.dropped[1], 0u);
  EXPECT_EQ(stuck.dropped[1], 0u);
  EXPECT_LE(stuck.segments, 8u);
}

}  // namespace
}  // namespace kvtier::test_support
