// Proves that the host gives the engine one user at a time, ticks it, and wakes those who wait for
// events; with an engine on simulated pools and real threads.
#include "daemon/engine_host.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "sim/sim_clock.h"
#include "tests/support/engine_fixture.h"

namespace kvtier {
namespace {

class EngineHostTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test_support::EngineFixtureOptions options;
    options.limits.session_timeout = absl::Seconds(5);
    auto engine = Engine::Create(test_support::MakeEngineOptions(options));
    ASSERT_TRUE(engine.ok()) << engine.status();
    host_ = std::make_unique<EngineHost>(*std::move(engine), &clock_,
                                         std::make_shared<TickSignal>(), 1);
  }

  sim::SimClock clock_;
  std::unique_ptr<EngineHost> host_;
};

TEST_F(EngineHostTest, OneUserAtATime) {
  int users = 0;
  std::atomic<int> overlaps{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        host_->With([&](Engine&, absl::Time) {
          if (++users != 1) ++overlaps;
          --users;
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(overlaps, 0);
}

TEST_F(EngineHostTest, TicksByItself) {
  host_->With(
      [](Engine& engine, absl::Time now) { ASSERT_TRUE(engine.Attach(TenantId(0), now).ok()); });
  clock_.Advance(absl::Seconds(6));
  EXPECT_TRUE(host_->WaitUntil(
      [](Engine& engine) { return engine.counters().sessions_expired == 1; }, absl::Seconds(10)));
}

TEST_F(EngineHostTest, HoldsTicksOnceItHasSettled) {
  const auto expired = [](Engine& engine) { return engine.counters().sessions_expired == 1; };
  host_->With(
      [](Engine& engine, absl::Time now) { ASSERT_TRUE(engine.Attach(TenantId(0), now).ok()); });
  ASSERT_TRUE(host_->Settle(absl::Hours(1), absl::Seconds(10)));
  EXPECT_TRUE(host_->held());
  clock_.Advance(absl::Seconds(6));
  // Longer than the thread leaves between ticks.
  EXPECT_FALSE(host_->WaitUntil(expired, absl::Milliseconds(100)));
  ASSERT_TRUE(host_->Settle(absl::ZeroDuration(), absl::Seconds(10)));
  EXPECT_TRUE(host_->With([&](Engine& engine, absl::Time) { return expired(engine); }));
  EXPECT_FALSE(host_->held());
}

TEST_F(EngineHostTest, WaitUntilGivesUp) {
  EXPECT_FALSE(host_->WaitUntil([](Engine&) { return false; }, absl::Milliseconds(20)));
  host_->Interrupt();
  EXPECT_FALSE(host_->WaitUntil([](Engine&) { return false; }, absl::Hours(1)));
}

TEST_F(EngineHostTest, InterruptEndsAWaitForEvents) {
  std::vector<Event> events;
  std::thread waiter([&] { host_->WaitForEvents(TenantId(0), 0, 10, absl::Hours(1), events); });
  host_->Interrupt();
  waiter.join();
  EXPECT_TRUE(events.empty());
}

TEST(TickSignal, AWakeBeforeTheWaitIsNotLost) {
  TickSignal signal;
  signal.Wake();
  signal.Wait(absl::Hours(1));
  std::thread waker([&] { signal.Wake(); });
  signal.Wait(absl::Hours(1));
  waker.join();
}

}  // namespace
}  // namespace kvtier
