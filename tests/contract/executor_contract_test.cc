// The contract of Executor, run on every implementation: each item once, calls of one lane never
// overlap, and all have ended when Run returns.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tiering/base/executor.h"
#include "tiering/base/stoppable_executor.h"
#include "tiering/host/thread_executor.h"

namespace kvtier {
namespace {

struct Implementation {
  std::string name;
  std::function<std::unique_ptr<Executor>()> make;
};

// That nothing stops, around one of its own.
class NeverStopped : public Executor {
 public:
  explicit NeverStopped(std::unique_ptr<Executor> inner)
      : inner_(std::move(inner)), stoppable_(*inner_, [] { return false; }) {}
  size_t lanes() const override { return stoppable_.lanes(); }
  void Run(size_t items, const std::function<void(size_t item, size_t lane)>& work) override {
    stoppable_.Run(items, work);
  }
  bool stopped() const override { return stoppable_.stopped(); }

 private:
  std::unique_ptr<Executor> inner_;
  StoppableExecutor stoppable_;
};

std::unique_ptr<Executor> Around(std::unique_ptr<Executor> inner) {
  return std::make_unique<NeverStopped>(std::move(inner));
}

class ExecutorContract : public ::testing::TestWithParam<Implementation> {
 protected:
  std::unique_ptr<Executor> executor_ = GetParam().make();
};

TEST_P(ExecutorContract, RunsEachItemOnceAndWaitsForAll) {
  ASSERT_GE(executor_->lanes(), 1u);
  for (const size_t items : {0, 1, 2, 3, 7, 64, 10'000}) {
    // Not atomic: two calls for an item, or one that has not ended, are a race.
    std::vector<int> calls(items);
    executor_->Run(items, [&](size_t item, size_t) { ++calls[item]; });
    for (const int count : calls) ASSERT_EQ(count, 1);
    ASSERT_FALSE(executor_->stopped());
  }
}

TEST_P(ExecutorContract, NeverOverlapsCallsOfOneLane) {
  std::vector<std::atomic<int>> inside(executor_->lanes());
  std::atomic<int> overlaps = 0, beyond = 0;
  // Not atomic either: a lane's calls see what its earlier ones wrote.
  std::vector<uint64_t> counts(executor_->lanes());
  for (int round = 0; round < 200; ++round) {
    executor_->Run(100, [&](size_t, size_t lane) {
      if (lane >= inside.size()) {
        ++beyond;
        return;
      }
      if (inside[lane].fetch_add(1) != 0) ++overlaps;
      ++counts[lane];
      inside[lane].fetch_sub(1);
    });
  }
  EXPECT_EQ(overlaps, 0);
  EXPECT_EQ(beyond, 0);
  uint64_t all = 0;
  for (const uint64_t count : counts) all += count;
  EXPECT_EQ(all, 20'000u);
}

TEST_P(ExecutorContract, MayBeDestroyedUnused) { executor_.reset(); }

INSTANTIATE_TEST_SUITE_P(
    All, ExecutorContract,
    ::testing::Values(
        Implementation{"Inline", [] { return std::make_unique<InlineExecutor>(); }},
        Implementation{"OneThread", [] { return std::make_unique<ThreadExecutor>(1); }},
        Implementation{"TwoThreads", [] { return std::make_unique<ThreadExecutor>(2); }},
        Implementation{"FiveThreads", [] { return std::make_unique<ThreadExecutor>(5); }},
        Implementation{"AllProcessors", [] { return std::make_unique<ThreadExecutor>(0); }},
        Implementation{"StoppableInline",
                       [] { return Around(std::make_unique<InlineExecutor>()); }},
        Implementation{"StoppableFiveThreads",
                       [] { return Around(std::make_unique<ThreadExecutor>(5)); }}),
    [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace kvtier
