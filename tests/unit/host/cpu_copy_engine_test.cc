// Proves what the CPU copy engine adds to the contract of CopyEngine: the order of priorities,
// cancellation of what has not begun, the wake-up of whoever polls, messages that say which copy
// failed and how, and a clean end with copies still queued. While held, the engine begins nothing,
// so that the tests say what is queued when.
#include "tiering/host/cpu_copy_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <vector>

#include "absl/strings/str_format.h"
#include "proto/wire/checksum.h"
#include "sim/sim_pool.h"
#include "tests/support/status_matchers.h"
#include "tiering/base/rng.h"

namespace kvtier {
namespace {

using test_support::IsOk;
using test_support::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Bytes kBlock = KiB(64);

class CpuCopyEngineTest : public ::testing::Test {
 protected:
  CpuCopyEngineTest()
      : hbm_({.name = "hbm:0", .segment_bytes = MiB(1), .segments_max = 2, .with_bytes = true}),
        dram_({.name = "dram:0", .segment_bytes = MiB(1), .segments_max = 2, .with_bytes = true}) {
    EXPECT_THAT(hbm_.AddSegment(), IsOk());
    EXPECT_THAT(dram_.AddSegment(), IsOk());
    Rng rng(11);
    for (int64_t i = 0; i < MiB(1).count(); ++i) {
      hbm_.Address(SegmentIndex(0))[i] = static_cast<std::byte>(rng.Next());
    }
    auto engine = CpuCopyEngine::Create(
        {.pools = {&hbm_, &dram_}, .in_flight_max = 16, .on_completion = [this] {
           MutexLock lock(mutex_);
           ++wakeups_;
           woken_.notify_all();
         }});
    EXPECT_THAT(engine, IsOk());
    engine_ = *std::move(engine);
  }

  CopyRequest Request(uint64_t ticket, CopyPriority priority = CopyPriority::kMigration) {
    const Bytes offset = kBlock * static_cast<int64_t>(ticket % 16);
    const std::byte* from = hbm_.Address(SegmentIndex(0)) + offset.count();
    return {.ticket = CopyTicket(ticket),
            .source = {PoolId(0), SegmentIndex(0), offset},
            .destination = {PoolId(1), SegmentIndex(0), offset},
            .bytes = kBlock,
            .checksum = wire::BlockChecksum({from, static_cast<size_t>(kBlock.count())}),
            .priority = priority};
  }

  // Polls until `count` completions are there, waiting for the engine's wake-up in between.
  std::vector<CopyCompletion> Await(size_t count) {
    std::vector<CopyCompletion> completions;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    MutexLock lock(mutex_);
    while (true) {
      engine_->Poll(completions);
      if (completions.size() >= count) return completions;
      if (woken_.wait_until(mutex_, deadline) == std::cv_status::timeout) {
        ADD_FAILURE() << completions.size() << " of " << count << " copies completed";
        return completions;
      }
    }
  }

  static std::vector<uint64_t> Tickets(const std::vector<CopyCompletion>& completions) {
    std::vector<uint64_t> tickets;
    for (const CopyCompletion& completion : completions)
      tickets.push_back(completion.ticket.value());
    return tickets;
  }

  sim::SimPool hbm_;
  sim::SimPool dram_;
  Mutex mutex_;
  CondVar woken_;
  int wakeups_ = 0;  // guarded by mutex_
  std::unique_ptr<CpuCopyEngine> engine_;
};

TEST_F(CpuCopyEngineTest, DemandBeforePrefetchBeforeMigration) {
  engine_->set_held(true);
  const CopyPriority priorities[] = {CopyPriority::kMigration, CopyPriority::kPrefetch,
                                     CopyPriority::kDemand,    CopyPriority::kMigration,
                                     CopyPriority::kDemand,    CopyPriority::kPrefetch};
  for (uint64_t ticket = 0; ticket < 6; ++ticket) {
    ASSERT_THAT(engine_->Submit(Request(ticket, priorities[ticket])), IsOk());
  }
  engine_->set_held(false);
  EXPECT_THAT(Tickets(Await(6)), ElementsAre(2, 4, 1, 5, 0, 3));
}

TEST_F(CpuCopyEngineTest, CancelledInTheQueueIsNotCopied) {
  engine_->set_held(true);
  for (uint64_t ticket = 0; ticket < 4; ++ticket)
    ASSERT_THAT(engine_->Submit(Request(ticket)), IsOk());
  engine_->Cancel(CopyTicket(1));
  engine_->Cancel(CopyTicket(1));
  engine_->Cancel(CopyTicket(99));
  std::vector<CopyCompletion> completions = Await(1);
  ASSERT_THAT(Tickets(completions), ElementsAre(1));
  EXPECT_THAT(completions[0].status, StatusIs(absl::StatusCode::kCancelled, HasSubstr("copy 1")));
  engine_->set_held(false);
  EXPECT_THAT(Tickets(Await(3)), ElementsAre(0, 2, 3));
  const std::byte* to = dram_.Address(SegmentIndex(0)) + kBlock.count();
  for (int64_t i = 0; i < kBlock.count(); ++i) ASSERT_EQ(to[i], std::byte{0}) << "byte " << i;
}

TEST_F(CpuCopyEngineTest, FlippedBitIsDataLossWithBothChecksums) {
  const CopyRequest request = Request(3);
  hbm_.Address(SegmentIndex(0))[request.source.offset.count() + 12345] ^= std::byte{0x10};
  const uint64_t found = Request(3).checksum;
  ASSERT_THAT(engine_->Submit(request), IsOk());
  const std::vector<CopyCompletion> completions = Await(1);
  ASSERT_EQ(completions.size(), 1u);
  EXPECT_THAT(completions[0].status,
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr("hbm:0"), HasSubstr("copy 3"),
                             HasSubstr(absl::StrFormat("%016x", found)),
                             HasSubstr(absl::StrFormat("%016x", request.checksum)))));
}

TEST_F(CpuCopyEngineTest, TellsOnceUntilPolled) {
  for (uint64_t ticket = 0; ticket < 8; ++ticket)
    ASSERT_THAT(engine_->Submit(Request(ticket)), IsOk());
  EXPECT_EQ(Await(8).size(), 8u);
  {
    MutexLock lock(mutex_);
    EXPECT_GE(wakeups_, 1);
    EXPECT_LE(wakeups_, 8);
  }
  // Cancelled copies are told as well, though no thread copied them.
  engine_->set_held(true);
  ASSERT_THAT(engine_->Submit(Request(0)), IsOk());
  ASSERT_THAT(engine_->Submit(Request(1)), IsOk());
  MutexLock lock(mutex_);
  const int before = wakeups_;
  mutex_.Unlock();
  engine_->Cancel(CopyTicket(0));
  engine_->Cancel(CopyTicket(1));
  mutex_.Lock();
  EXPECT_EQ(wakeups_, before + 1);
}

TEST_F(CpuCopyEngineTest, SegmentsThatDoNotExistAreRefused) {
  CopyRequest request = Request(0);
  request.source.segment = SegmentIndex(1);
  EXPECT_THAT(engine_->Submit(request),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("hbm:0"), HasSubstr("segment 1"))));
  request = Request(0);
  request.destination.segment = SegmentIndex(1);
  EXPECT_THAT(engine_->Submit(request),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("dram:0"), HasSubstr("segment 1"))));
}

TEST_F(CpuCopyEngineTest, TicketsInFlightAreNotReused) {
  engine_->set_held(true);
  ASSERT_THAT(engine_->Submit(Request(5)), IsOk());
  EXPECT_THAT(engine_->Submit(Request(5)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ticket 5")));
}

TEST_F(CpuCopyEngineTest, EndsWithCopiesQueued) {
  engine_->set_held(true);
  for (uint64_t ticket = 0; ticket < 16; ++ticket)
    ASSERT_THAT(engine_->Submit(Request(ticket)), IsOk());
  EXPECT_THAT(engine_->Submit(Request(16)),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("16 copies")));
  engine_.reset();
  EXPECT_EQ(dram_.Address(SegmentIndex(0))[0], std::byte{0});
}

TEST(CpuCopyEngineOptionsTest, RefusalsNameTheLimits) {
  EXPECT_THAT(
      CpuCopyEngine::Create({.threads = 0}),
      StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("0 threads"), HasSubstr("64"))));
  EXPECT_THAT(CpuCopyEngine::Create({.threads = 65}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(CpuCopyEngine::Create({.in_flight_max = 0}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(CpuCopyEngine::Create({.in_flight_max = 65537}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("65536")));
}

}  // namespace
}  // namespace kvtier
