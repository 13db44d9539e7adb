// Once told to stop, a StoppableExecutor begins nothing any more, in this Run or a later one, and
// says so; items that have begun end, and where all of them were done nothing was stopped.
#include "tiering/base/stoppable_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "tests/support/bound/lanes_in_turn.h"
#include "tests/support/stop_after.h"
#include "tiering/host/thread_executor.h"

namespace kvtier {
namespace {

using test_support::StopAfter;

TEST(StoppableExecutorTest, SkipsWhatComesAfterTheAnswer) {
  for (uint64_t stop_after = 0; stop_after <= 12; ++stop_after) {
    InlineExecutor inner;
    StopAfter question(stop_after);
    StoppableExecutor executor(inner, question.Check());
    std::vector<size_t> done;
    const auto note = [&](size_t item, size_t lane) {
      EXPECT_EQ(lane, 0u);
      done.push_back(item);
    };
    executor.Run(10, note);
    EXPECT_EQ(done.size(), std::min<uint64_t>(stop_after, 10));
    for (size_t i = 0; i < done.size(); ++i) EXPECT_EQ(done[i], i);
    EXPECT_EQ(executor.stopped(), stop_after < 10);
    executor.Run(5, note);
    EXPECT_EQ(done.size(), stop_after < 10 ? stop_after : std::min<uint64_t>(stop_after, 15));
    EXPECT_TRUE(executor.stopped());
    EXPECT_EQ(question.asked(), stop_after + 1);  // it stays stopped without being asked
  }
}

TEST(StoppableExecutorTest, WithoutItemsOrAQuestionNothingIsStopped) {
  InlineExecutor inner;
  StoppableExecutor told(inner, [] { return true; });
  told.Run(0, [](size_t, size_t) { FAIL(); });
  EXPECT_FALSE(told.stopped());
  StoppableExecutor never(inner, {});
  size_t done = 0;
  never.Run(7, [&](size_t, size_t) { ++done; });
  EXPECT_EQ(done, 7u);
  EXPECT_FALSE(never.stopped());
}

TEST(StoppableExecutorTest, IsStoppedWhereTheOneInsideIs) {
  test_support::LanesInTurn lanes(3);
  StoppableExecutor inner(lanes, [] { return true; });
  StoppableExecutor outer(inner, {});
  EXPECT_EQ(outer.lanes(), 3u);
  outer.Run(2, [](size_t, size_t) { FAIL(); });
  EXPECT_TRUE(outer.stopped());
}

// Every lane asks; what began before the answer ends before Run does.
TEST(StoppableExecutorTest, EndsOnAllLanes) {
  ThreadExecutor threads(4);
  for (int round = 0; round < 50; ++round) {
    StopAfter question(100);
    StoppableExecutor executor(threads, question.Check());
    std::atomic<uint64_t> begun = 0, ended = 0;
    executor.Run(10'000, [&](size_t, size_t) {
      ++begun;
      ++ended;
    });
    EXPECT_EQ(begun, ended);
    EXPECT_EQ(begun, 100u);
    EXPECT_LE(question.asked(), 100u + threads.lanes());
    EXPECT_TRUE(executor.stopped());
  }
}

}  // namespace
}  // namespace kvtier
