// The contract of Clock, run on every implementation: it moves on, and never backwards, for any
// thread.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "sim/sim_clock.h"
#include "tiering/base/clock.h"
#include "tiering/host/monotonic_clock.h"

namespace kvtier {
namespace {

struct Subject {
  std::unique_ptr<Clock> clock;
  std::function<void()> let_pass;  // makes time pass, if it does not by itself
};

struct Implementation {
  std::string name;
  std::function<Subject()> make;
};

Subject MakeMonotonic() {
  return {.clock = std::make_unique<MonotonicClock>(),
          .let_pass = [] { std::this_thread::yield(); }};
}

Subject MakeSim() {
  auto clock = std::make_unique<sim::SimClock>();
  sim::SimClock* raw = clock.get();
  return {.clock = std::move(clock), .let_pass = [raw] { raw->Advance(absl::Nanoseconds(1)); }};
}

class ClockContract : public ::testing::TestWithParam<Implementation> {
 protected:
  Subject subject_ = GetParam().make();
};

TEST_P(ClockContract, MovesOn) {
  const absl::Time start = subject_.clock->Now();
  EXPECT_GT(start, absl::UnixEpoch());
  // Bounded in steps, not in time: a clock that stands still must not make the test hang.
  int64_t steps = 0;
  while (subject_.clock->Now() == start && ++steps < 10'000'000) subject_.let_pass();
  EXPECT_GT(subject_.clock->Now(), start);
}

TEST_P(ClockContract, NeverGoesBackwardsForAnyThread) {
  std::atomic<int> backwards{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      absl::Time last = subject_.clock->Now();
      for (int step = 0; step < 20000; ++step) {
        const absl::Time now = subject_.clock->Now();
        if (now < last) ++backwards;
        last = now;
      }
    });
  }
  for (int step = 0; step < 20000; ++step) subject_.let_pass();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(backwards.load(), 0);
}

INSTANTIATE_TEST_SUITE_P(Clocks, ClockContract,
                         ::testing::Values(Implementation{"MonotonicClock", MakeMonotonic},
                                           Implementation{"SimClock", MakeSim}),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace kvtier
