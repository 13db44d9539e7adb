// Proves that the simulated pool, clock and copy engine do what tests of the engine ask them to:
// copies take the link's time, one at a time and by priority; injected failures, delays and
// refusals come where they were put; the source is read as late as allowed; and the same seed gives
// the same run.
#include "sim/sim_copy_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "proto/wire/checksum.h"
#include "sim/sim_clock.h"
#include "sim/sim_pool.h"
#include "tests/support/status_matchers.h"

namespace kvtier::sim {
namespace {

using test_support::IsOk;
using test_support::StatusIs;
using ::testing::ElementsAre;

constexpr Bytes kBlock = KiB(64);

class SimCopyEngineTest : public ::testing::Test {
 protected:
  SimCopyEngineTest()
      : fast_({.name = "hbm:0", .segment_bytes = MiB(4), .segments_max = 1, .with_bytes = true}),
        slow_({.name = "dram:0", .segment_bytes = MiB(4), .segments_max = 1, .with_bytes = true}) {
    EXPECT_THAT(fast_.AddSegment(), IsOk());
    EXPECT_THAT(slow_.AddSegment(), IsOk());
    zeros_checksum_ =
        wire::BlockChecksum({fast_.Address(SegmentIndex(0)), static_cast<size_t>(kBlock.count())});
  }
  // 64 KiB at a time, over a link of 10 us + 64 KiB / (65.536 GB/s) = 11 us.
  SimCopyEngine::Options Timed() {
    return {.pools = {&fast_, &slow_},
            .clock = &clock_,
            .link = {.latency = absl::Microseconds(10), .bandwidth = BytesPerSecond{65.536e9}},
            .reorder = false};
  }
  CopyRequest Request(uint64_t ticket, CopyPriority priority = CopyPriority::kMigration) {
    const Bytes offset = kBlock * static_cast<int64_t>(ticket);
    return {.ticket = CopyTicket(ticket),
            .source = {PoolId(0), SegmentIndex(0), offset},
            .destination = {PoolId(1), SegmentIndex(0), offset},
            .bytes = kBlock,
            .checksum = zeros_checksum_,
            .priority = priority};
  }
  static std::vector<uint64_t> PolledTickets(SimCopyEngine& engine) {
    std::vector<CopyCompletion> completions;
    engine.Poll(completions);
    std::vector<uint64_t> tickets;
    for (const CopyCompletion& completion : completions)
      tickets.push_back(completion.ticket.value());
    return tickets;
  }

  SimClock clock_;
  SimPool fast_;
  SimPool slow_;
  uint64_t zeros_checksum_ = 0;
};

TEST_F(SimCopyEngineTest, TakesTheLinksTimeOneAtATime) {
  SimCopyEngine engine(Timed());
  for (uint64_t ticket = 0; ticket < 3; ++ticket)
    ASSERT_THAT(engine.Submit(Request(ticket)), IsOk());
  EXPECT_THAT(PolledTickets(engine), ElementsAre());
  clock_.Advance(absl::Nanoseconds(10999));
  EXPECT_THAT(PolledTickets(engine), ElementsAre());
  clock_.Advance(absl::Nanoseconds(2));
  EXPECT_THAT(PolledTickets(engine), ElementsAre(0));
  clock_.Advance(absl::Microseconds(22));
  EXPECT_THAT(PolledTickets(engine), ElementsAre(1, 2));
  EXPECT_EQ(engine.bytes_copied(), kBlock * 3);
}

TEST_F(SimCopyEngineTest, LinksOfTheirOwn) {
  SimCopyEngine::Options options = Timed();
  options.links[{PoolId(1), PoolId(0)}] = {.latency = absl::Microseconds(1),
                                           .bandwidth = BytesPerSecond{65.536e9}};
  SimCopyEngine engine(options);
  ASSERT_THAT(engine.Submit(Request(0)), IsOk());
  CopyRequest back = Request(1);
  std::swap(back.source, back.destination);
  ASSERT_THAT(engine.Submit(back), IsOk());
  clock_.Advance(absl::Nanoseconds(2001));
  EXPECT_THAT(PolledTickets(engine), ElementsAre(1));
}

TEST_F(SimCopyEngineTest, UrgentCopiesOvertakeWaitingOnes) {
  SimCopyEngine engine(Timed());
  ASSERT_THAT(engine.Submit(Request(0)), IsOk());
  ASSERT_THAT(engine.Submit(Request(1)), IsOk());
  clock_.Advance(absl::Microseconds(5));
  EXPECT_THAT(PolledTickets(engine), ElementsAre());  // the link has begun with 0
  ASSERT_THAT(engine.Submit(Request(2, CopyPriority::kPrefetch)), IsOk());
  ASSERT_THAT(engine.Submit(Request(3, CopyPriority::kDemand)), IsOk());
  std::vector<uint64_t> order;
  for (int i = 0; i < 6; ++i) {
    clock_.Advance(absl::Microseconds(11));
    for (const uint64_t ticket : PolledTickets(engine)) order.push_back(ticket);
  }
  EXPECT_THAT(order, ElementsAre(0, 3, 2, 1));
}

TEST_F(SimCopyEngineTest, WithoutAClockTakesPolls) {
  SimCopyEngine engine(
      {.pools = {&fast_, &slow_}, .polls_min = 3, .polls_max = 3, .reorder = false});
  ASSERT_THAT(engine.Submit(Request(0)), IsOk());
  EXPECT_THAT(PolledTickets(engine), ElementsAre());
  ASSERT_THAT(engine.Submit(Request(1)), IsOk());
  EXPECT_THAT(PolledTickets(engine), ElementsAre());
  EXPECT_THAT(PolledTickets(engine), ElementsAre(0));
  EXPECT_THAT(PolledTickets(engine), ElementsAre(1));
}

TEST_F(SimCopyEngineTest, FaultsAndDelaysComeWhereTheyWerePut) {
  SimCopyEngine engine(
      {.pools = {&fast_, &slow_}, .polls_min = 1, .polls_max = 1, .reorder = false});
  engine.FailCopy(1, absl::UnavailableError("link down"));
  engine.DelayCopy(0, absl::ZeroDuration(), 2);
  for (uint64_t ticket = 0; ticket < 3; ++ticket)
    ASSERT_THAT(engine.Submit(Request(ticket)), IsOk());
  EXPECT_EQ(engine.in_flight(), 3u);
  EXPECT_EQ(engine.InFlight().size(), 3u);
  std::vector<CopyCompletion> completions;
  engine.Poll(completions);
  ASSERT_EQ(completions.size(), 2u);
  EXPECT_THAT(completions[0].status, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(completions[1].status, IsOk());
  // A failed copy leaves garbage, so that nobody can use it unnoticed.
  EXPECT_NE(slow_.Address(SegmentIndex(0))[kBlock.count()], std::byte{0});
  EXPECT_THAT(PolledTickets(engine), ElementsAre());
  EXPECT_THAT(PolledTickets(engine), ElementsAre(0));

  engine.FailOneIn(1, absl::UnavailableError("all down"));
  ASSERT_THAT(engine.Submit(Request(4)), IsOk());
  completions.clear();
  engine.Poll(completions);
  ASSERT_EQ(completions.size(), 1u);
  EXPECT_THAT(completions[0].status, StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(SimCopyEngineTest, ReadsTheSourceWhenItCompletes) {
  SimCopyEngine engine(Timed());
  ASSERT_THAT(engine.Submit(Request(0)), IsOk());
  fast_.Address(SegmentIndex(0))[7] = std::byte{1};  // as if the slot had been reused too early
  clock_.Advance(absl::Milliseconds(1));
  std::vector<CopyCompletion> completions;
  engine.Poll(completions);
  ASSERT_EQ(completions.size(), 1u);
  EXPECT_THAT(completions[0].status, StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(SimCopyEngineTest, HeldNothingCompletes) {
  SimCopyEngine engine(
      {.pools = {&fast_, &slow_}, .polls_min = 1, .polls_max = 1, .cancel_ignored_one_in = 0});
  engine.set_held(true);
  ASSERT_THAT(engine.Submit(Request(0)), IsOk());
  engine.Cancel(CopyTicket(0));
  for (int i = 0; i < 5; ++i) EXPECT_THAT(PolledTickets(engine), ElementsAre());
  engine.set_held(false);
  std::vector<CopyCompletion> completions;
  engine.Poll(completions);
  ASSERT_EQ(completions.size(), 1u);
  EXPECT_THAT(completions[0].status, StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(SimCopyEngineTest, TheSameSeedGivesTheSameRun) {
  const auto run = [&](uint64_t seed) {
    SimCopyEngine engine({.pools = {&fast_, &slow_}, .seed = seed, .polls_min = 1, .polls_max = 5});
    engine.FailOneIn(3, absl::UnavailableError("drawn"));
    std::string log;
    for (uint64_t ticket = 0; ticket < 40; ++ticket) {
      EXPECT_THAT(engine.Submit(Request(ticket)), IsOk());
      if (ticket % 4 == 0) engine.Cancel(CopyTicket(ticket));
      std::vector<CopyCompletion> completions;
      engine.Poll(completions);
      for (const CopyCompletion& completion : completions) {
        log +=
            std::to_string(completion.ticket.value()) + " " + completion.status.ToString() + "\n";
      }
    }
    return log;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
}

TEST(SimPoolTest, AddsFailAsAsked) {
  SimPool pool({.name = "dram:0", .segment_bytes = KiB(4), .segments_max = 3});
  pool.FailAdds(2, absl::ResourceExhaustedError("not now"));
  EXPECT_THAT(pool.AddSegment(), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(pool.AddSegment(), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(pool.segments(), 0u);
  EXPECT_THAT(pool.AddSegment(), IsOk());
  EXPECT_EQ(pool.segments(), 1u);
  EXPECT_EQ(pool.Address(SegmentIndex(0)), nullptr);
}

TEST(SimClockTest, StandsStillUntilAdvanced) {
  SimClock clock;
  const absl::Time start = clock.Now();
  EXPECT_EQ(clock.Now(), start);
  clock.Advance(absl::Milliseconds(5));
  EXPECT_EQ(clock.Now() - start, absl::Milliseconds(5));
}

}  // namespace
}  // namespace kvtier::sim
