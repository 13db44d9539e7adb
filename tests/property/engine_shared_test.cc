// Clients of shared memory, one rule at a time: who may have one, what a lease names to it, that
// one tenant's sections hold up nobody else, when moves stop and leases are refused, and what
// becomes of what clients write into their rings. Random runs are in engine_property_test.cc.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/index_reader.h"
#include "proto/wire/report_ring.h"
#include "proto/wire/section_protocol.h"
#include "tests/support/block_content.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_models.h"

namespace kvtier::test_support {
namespace {

using ::testing::HasSubstr;
using Code = absl::StatusCode;

EngineFixtureOptions Shared(uint16_t tenants = 1) {
  EngineFixtureOptions options;
  options.shared = true;
  options.tenants = tenants;
  return options;
}

// A process of one session that maps its tenant's index.
class Process {
 public:
  Process(EngineFixture& fixture, Caller caller) : fixture_(fixture) {
    auto client = fixture.engine().AttachShared(caller, page_.get());
    EXPECT_THAT(client, IsOk());
    if (client.ok()) id = *client;
    std::string why;
    index = wire::IndexReader::Create(fixture.index_memory()[caller.tenant.value()]->bytes(), why);
    EXPECT_TRUE(index.has_value()) << why;
  }
  void Enter() { wire::EnterSection(index->retire_epoch(), *page_, 0); }
  void Leave() { wire::LeaveSection(page_->sections[0].section); }
  void End() { fixture_.engine().EndShared(id); }
  wire::ClientPage* page() { return page_.get(); }

  ShmClientId id;
  std::optional<wire::IndexReader> index;

 private:
  EngineFixture& fixture_;
  std::unique_ptr<wire::ClientPage> page_ = std::make_unique<wire::ClientPage>();
};

TEST(EngineSharedTest, ASessionHasOneClientAndOnlyWhereMemoryIsShared) {
  wire::ClientPage page{};
  EngineFixture without;
  EXPECT_THAT(without.engine().AttachShared(without.Attach(), &page),
              StatusIs(Code::kFailedPrecondition));
  EXPECT_TRUE(without.engine().SharedClients().empty());
  without.engine().EndShared(ShmClientId(1));

  EngineFixture fixture(Shared(2));
  const Caller caller = fixture.Attach();
  Process process(fixture, caller);
  EXPECT_THAT(fixture.engine().AttachShared(caller, &page),
              StatusIs(Code::kFailedPrecondition, HasSubstr("already")));
  EXPECT_THAT(fixture.engine().AttachShared({TenantId(1), caller.session}, &page),
              StatusIs(Code::kNotFound));
  process.End();
  EXPECT_THAT(fixture.engine().AttachShared(caller, &page), IsOk());
}

TEST(EngineSharedTest, ProcessesThatOutliveTheirSessionsAreBounded) {
  EngineFixtureOptions options = Shared();
  options.limits.sessions_max = 3;
  EngineFixture fixture(options);
  std::vector<std::unique_ptr<Process>> processes;
  for (int i = 0; i < 3; ++i) {
    const Caller caller = fixture.Attach();
    processes.push_back(std::make_unique<Process>(fixture, caller));
    EXPECT_THAT(fixture.engine().Detach(caller), IsOk());
  }
  const Caller caller = fixture.Attach();
  wire::ClientPage page{};
  EXPECT_THAT(fixture.engine().AttachShared(caller, &page),
              StatusIs(Code::kResourceExhausted, HasSubstr("sessions_max")));
  ASSERT_EQ(fixture.engine().SharedClients().size(), 3u);
  EXPECT_EQ(fixture.engine().SharedClients()[0].session, SessionId());
  processes[1]->End();
  EXPECT_THAT(fixture.engine().AttachShared(caller, &page), IsOk());
}

TEST(EngineSharedTest, ALeaseNamesItsRows) {
  EngineFixture fixture(Shared());
  const Caller caller = fixture.Attach();
  const ModelId model = fixture.Register(caller, DenseModel());
  const std::vector<wire::ChunkKey> keys = {NumberedKey(1), NumberedKey(2), NumberedKey(3)};
  fixture.PutChain(caller, model, keys);
  const LookupResult found = fixture.Lookup(caller, model, keys);
  std::vector<uint64_t> rows = {1, 2};
  EXPECT_THAT(fixture.engine().LeaseRows(caller, found.lease, rows), IsOk());
  EXPECT_TRUE(rows.empty()) << "the session has no client";
  Process process(fixture, caller);
  ASSERT_THAT(fixture.engine().LeaseRows(caller, found.lease, rows), IsOk());
  ASSERT_EQ(rows.size(), 3u);
  process.Enter();
  for (size_t i = 0; i < rows.size(); ++i) {
    const wire::IndexReader::Row row = process.index->At(rows[i]);
    ASSERT_TRUE(row);
    EXPECT_EQ(row.line, process.index->Find(keys[i], model.value()).line);
  }
  process.Leave();
  EXPECT_THAT(fixture.engine().LeaseRows(caller, LeaseId(99), rows), StatusIs(Code::kNotFound));
  EXPECT_EQ(fixture.engine().Totals(caller.tenant).index_entries, 3u);
  // A forgotten chunk is found by its lease's name only.
  ASSERT_THAT(fixture.engine().Forget(caller, model, {&keys[2], 1}), IsOk());
  EXPECT_EQ(fixture.engine().Totals(caller.tenant).index_entries, 2u);
  EXPECT_EQ(fixture.engine().Totals({}).index_entries_max, fixture.options().limits.chunks_max);
  EXPECT_FALSE(process.index->Find(keys[2], model.value()));
  EXPECT_TRUE(wire::IndexReader::Resolve(process.index->At(rows[2]), 0).valid());
}

TEST(EngineSharedTest, ASectionHoldsUpItsOwnTenantOnly) {
  EngineFixture fixture(Shared(2));
  std::vector<Caller> callers;
  for (uint16_t tenant = 0; tenant < 2; ++tenant) {
    callers.push_back(fixture.Attach(tenant));
    const ModelId model = fixture.Register(callers[tenant], DenseModel());
    fixture.PutChain(callers[tenant], model, {NumberedKey(1)});
  }
  Process reader(fixture, callers[0]);
  Process other(fixture, callers[1]);
  reader.Enter();
  for (uint16_t tenant = 0; tenant < 2; ++tenant) {
    const wire::ChunkKey key = NumberedKey(1);
    EXPECT_THAT(fixture.engine().Forget(callers[tenant], ModelId(tenant), {&key, 1}), IsOk());
  }
  fixture.Advance(absl::Milliseconds(1));
  const auto used = [&](size_t tenant) {
    Bytes sum;
    for (const PoolStatus& pool : fixture.engine().Pools()) sum += pool.tenants[tenant].used;
    return sum;
  };
  EXPECT_GT(used(0), Bytes(0));
  EXPECT_EQ(used(1), Bytes(0));
  // Its session's end changes nothing; that of its process does.
  EXPECT_THAT(fixture.engine().Detach(callers[0]), IsOk());
  fixture.Advance(absl::Milliseconds(1));
  EXPECT_GT(used(0), Bytes(0));
  reader.End();
  fixture.Advance(absl::Milliseconds(1));
  EXPECT_EQ(used(0), Bytes(0));
}

TEST(EngineSharedTest, OverTheSectionLimitNothingIsLeasedOrReserved) {
  EngineFixture fixture(Shared());
  const Caller caller = fixture.Attach();
  const ModelId model = fixture.Register(caller, DenseModel());
  const wire::ChunkKey key = NumberedKey(1);
  fixture.PutChain(caller, model, {key});
  Process process(fixture, caller);
  process.Enter();
  fixture.Advance(absl::Seconds(0));
  fixture.Advance(absl::Seconds(10));
  EXPECT_THAT(fixture.engine().Lookup(caller, model, {&key, 1}, absl::Seconds(1), fixture.now()),
              IsOk());
  fixture.Advance(absl::Milliseconds(1));
  EXPECT_TRUE(fixture.engine().SharedClients()[0].over_limit);
  EXPECT_THAT(fixture.engine().Lookup(caller, model, {&key, 1}, absl::Seconds(1), fixture.now()),
              StatusIs(Code::kResourceExhausted, HasSubstr("section_ms_max")));
  EXPECT_THAT(fixture.engine().Reserve(caller, {.model = model, .parent = key, .planes = {}},
                                       fixture.now()),
              StatusIs(Code::kResourceExhausted, HasSubstr("section_ms_max")));
  EXPECT_EQ(fixture.engine().counters().section_limit_refusals, 2u);
  EXPECT_EQ(fixture.Matched(caller, model, {key}), 1u) << "without a lease";
  process.Leave();
  fixture.Advance(absl::Milliseconds(1));
  EXPECT_THAT(fixture.engine().Lookup(caller, model, {&key, 1}, absl::Seconds(1), fixture.now()),
              IsOk());
}

TEST(EngineSharedTest, AtTheCapOfRetiredSlotsItsMovesStop) {
  constexpr uint32_t kChunks = 6;
  constexpr uint32_t kMovesToTheCap = 4;
  constexpr Bytes kSlot(512);  // of each plane of the model
  EngineFixtureOptions options = Shared(2);
  options.policy = PolicyChoice::kScripted;
  options.limits.retired_share_max = 0.05;  // 3.2 slots of pool 0
  EngineFixture fixture(options);
  const Caller callers[] = {fixture.Attach(0), fixture.Attach(1)};
  ModelId models[2];
  std::vector<wire::ChunkKey> keys;
  for (uint32_t number = 1; number <= kChunks; ++number) keys.push_back(NumberedKey(number));
  for (int tenant = 0; tenant < 2; ++tenant) {
    models[tenant] = fixture.Register(callers[tenant], DenseModel());
    fixture.PutChain(callers[tenant], models[tenant], keys);
  }
  Process process(fixture, callers[0]);
  process.Enter();
  const auto retired = [&] { return fixture.engine().Pools()[0].retired; };
  const auto counters = [&] { return fixture.engine().counters(); };
  // Moves done when the policy asks for those of some chunks' first plane.
  const auto move = [&](int tenant, uint32_t first, uint32_t last) {
    const uint64_t done = counters().moves_done;
    for (uint32_t number = first; number <= last; ++number) {
      fixture.script().Move(models[tenant], NumberedKey(number), PlaneIndex(0), PoolId(0),
                            PoolId(1));
      fixture.Settle();
    }
    return counters().moves_done - done;
  };
  // An open section alone stops nothing.
  for (uint32_t number = 1; number <= kMovesToTheCap; ++number) {
    EXPECT_EQ(move(0, number, number), 1u) << number;
    EXPECT_EQ(retired(), kSlot * number);
  }
  const auto cap = static_cast<double>(fixture.engine().Pools()[0].budget.count()) *
                   options.limits.retired_share_max;
  EXPECT_GE(static_cast<double>(retired().count()), cap);
  EXPECT_LT(static_cast<double>((retired() - kSlot).count()), cap);
  // At the cap they are not even begun, whoever asks again.
  const uint64_t started = counters().moves_started;
  for (int again = 0; again < 3; ++again)
    EXPECT_EQ(move(0, kMovesToTheCap + 1, kChunks), 0u) << "its retired slots wait for the section";
  EXPECT_EQ(counters().moves_started, started);
  EXPECT_EQ(retired(), kSlot * kMovesToTheCap);
  EXPECT_EQ(move(1, 1, kChunks), kChunks) << "another tenant's moves go on";
  EXPECT_EQ(retired(), kSlot * kMovesToTheCap) << "and its slots wait for nobody";
  process.Leave();
  fixture.Settle();
  EXPECT_EQ(retired(), Bytes(0));
  EXPECT_EQ(move(0, kMovesToTheCap + 1, kChunks), kChunks - kMovesToTheCap);
  EXPECT_EQ(counters().moves_failed, 0u);
  EXPECT_EQ(counters().dropped_chunks, 0u);
}

TEST(EngineSharedTest, ReportsReachThePolicyAndNonsenseIsCounted) {
  EngineFixture fixture(Shared(2));
  const Caller caller = fixture.Attach(0);
  const Caller stranger = fixture.Attach(1);
  const ModelId model = fixture.Register(caller, DenseModel());
  const std::vector<wire::ChunkKey> keys = {NumberedKey(1), NumberedKey(2)};
  fixture.PutChain(caller, model, keys);
  Process process(fixture, caller);
  Process other(fixture, stranger);
  const uint64_t row = process.index->Find(keys[1], model.value()).name();
  wire::ReportProducer reports(process.page());
  reports.Write({.row = row, .steps = 3, .plane = 1, .log_mass = 200});
  reports.Write({.row = row, .steps = 3, .plane = 1, .log_mass = 0});
  reports.Write({.row = row});
  reports.Write({.row = row, .plane = 4});                 // the model has four planes
  reports.Write({.row = row + (uint64_t{1} << 32)});       // another generation
  reports.Write({.row = row + 1});                         // no row begins there
  wire::ReportProducer(other.page()).Write({.row = row});  // another tenant's
  process.page()->dropped.store(5);
  fixture.Advance(absl::Milliseconds(1));
  EngineCounters counters = fixture.engine().counters();
  EXPECT_EQ(counters.shared_reports, 3u);
  EXPECT_EQ(counters.reported_reads, 1u);
  EXPECT_EQ(counters.shared_reports_invalid, 4u);
  EXPECT_EQ(counters.shared_reports_dropped, 5u);
  // A full ring is taken in bounded parts.
  while (reports.Write({.row = row})) {
  }
  for (int tick = 0; tick < 4; ++tick) fixture.Advance(absl::Milliseconds(1));
  counters = fixture.engine().counters();
  EXPECT_EQ(counters.shared_reports, 3u + wire::kReportRecords);
}

}  // namespace
}  // namespace kvtier::test_support
