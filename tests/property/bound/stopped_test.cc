// An evaluation that was stopped half-way is taken for nothing: whenever the solver or the search
// is stopped, what it comes out with is worth what an evaluation of its own finds it to be worth,
// no more than the best schedule takes, and no item is begun any more.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/bound/brute_force.h"
#include "tests/support/bound/lanes_in_turn.h"
#include "tests/support/bound/random_instance.h"
#include "tests/support/bound/synthetic.h"
#include "tests/support/status_matchers.h"
#include "tests/support/stop_after.h"
#include "tests/support/test_seed.h"
#include "tiering/base/stoppable_executor.h"
#include "tiering/bound/dual_solver.h"
#include "tiering/bound/evaluation.h"
#include "tiering/bound/price_space.h"
#include "tiering/bound/primal/schedule_checker.h"
#include "tiering/bound/primal/schedule_search.h"

namespace kvtier::bound {
namespace {

using test_support::StopAfter;

constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

double Hard(const Instance& instance, const Prices& prices) {
  InlineExecutor executor;
  return Evaluator(instance, executor).Hard(prices, nullptr);
}

// Ways of the solver: all at once, by windows, and a sample first.
DualOptions OptionsOf(uint64_t way, uint32_t iterations) {
  DualOptions options{.iterations = iterations, .polish_iterations_min = 4};
  if (way == 1) options.window_phases = 2;
  if (way == 2) {
    options.full_accesses = 1;
    options.sample_accesses = 1;
    options.sample_accesses_per_phase = 1;
  }
  return options;
}

// Stops at each of some numbers of items; `truth` may be infinite.
void StopSolver(const Instance& instance, const DualOptions& options, double truth, int times,
                Rng& rng) {
  test_support::LanesInTurn lanes(3);
  StopAfter never(kNever);
  StoppableExecutor whole(lanes, never.Check());
  const DualResult best = SolveDual(instance, options, whole, nullptr);
  ASSERT_FALSE(whole.stopped());
  ASSERT_EQ(best.bound, Hard(instance, best.prices));
  uint64_t found = 0;
  for (int i = 0; i < times; ++i) {
    const uint64_t items = i == 0 ? 0 : rng.Below(i <= times / 2 ? never.asked() : 60);
    SCOPED_TRACE(absl::StrCat("stopped after ", items, " of ", never.asked(), " items"));
    StopAfter some(items);
    StoppableExecutor stopped(lanes, some.Check());
    const DualResult result = SolveDual(instance, options, stopped, nullptr);
    EXPECT_EQ(stopped.stopped(), items < never.asked());
    EXPECT_LE(some.asked(), items + 1);  // nothing is asked for any more
    if (!result.found()) continue;
    ++found;
    EXPECT_EQ(result.bound, Hard(instance, result.prices));
    EXPECT_LE(result.bound, truth * (1 + 1e-9));
    EXPECT_TRUE(std::isfinite(result.roofline_seconds));
    EXPECT_GE(result.bound, result.roofline_seconds);
  }
  EXPECT_GT(found, 0u);
}

TEST(BoundStoppedTest, SolverTakesNoHalfEvaluationForABound) {
  Rng rng(test_support::TestSeed(71));
  for (const auto model : test_support::kBoundModels) {
    for (uint64_t i = 0; i < 9; ++i) {
      SCOPED_TRACE(absl::StrCat(test_support::NameOf(model), " ", i));
      const Instance instance = test_support::RandomInstance(model, {}, rng);
      StopSolver(instance, OptionsOf(i % 3, 12), test_support::LeastSeconds(instance), 25, rng);
    }
  }
}

// Of several items each, and with phases that are merged.
TEST(BoundStoppedTest, SoItIsWithinTheItemsOfAnEvaluation) {
  Rng rng(test_support::TestSeed(72));
  for (uint64_t way = 0; way < 3; ++way) {
    const Instance instance =
        test_support::Synthetic({.model = test_support::SyntheticModel::kThreeTiers,
                                 .blocks = 8000,
                                 .steps = 40,
                                 .layers = 2,
                                 .seed = way});
    SCOPED_TRACE(way);
    StopSolver(instance, OptionsOf(way, 3), std::numeric_limits<double>::infinity(), 8, rng);
  }
}

TEST(BoundStoppedTest, AnEvaluationSaysThatItIsNone) {
  const Instance instance = test_support::Synthetic({.blocks = 2000, .steps = 50});
  InlineExecutor inner;
  StopAfter never(kNever);
  StoppableExecutor whole(inner, never.Check());
  const Prices prices = PriceSpace(instance).Start();
  Evaluation evaluation;
  const double value = Evaluator(instance, whole).Hard(prices, &evaluation);
  EXPECT_EQ(value, Hard(instance, prices));
  for (uint64_t items = 0; items <= never.asked(); ++items) {
    StopAfter some(items);
    StoppableExecutor stopped(inner, some.Check());
    Evaluator evaluator(instance, stopped);
    const double expected =
        items < never.asked() ? -std::numeric_limits<double>::infinity() : value;
    EXPECT_EQ(evaluator.Hard(prices, &evaluation), expected) << items;
    EXPECT_EQ(evaluation.value, expected);
    EXPECT_EQ(evaluator.stopped(), items < never.asked());
    EXPECT_EQ(evaluator.Soft(prices, 1e-6 * PriceSpace(instance).unit(), nullptr),
              -std::numeric_limits<double>::infinity());
  }
}

TEST(BoundStoppedTest, SearchReturnsCheckedSchedulesOnly) {
  Rng rng(test_support::TestSeed(73));
  const auto go_on = [](const SearchProgress&) { return true; };
  uint64_t found = 0, none = 0;
  for (const auto model : test_support::kBoundModels) {
    const Instance instance =
        test_support::RandomInstance(model, {.blocks_max = 30, .phases_max = 12}, rng);
    const Prices prices = PriceSpace(instance).Start();
    test_support::LanesInTurn lanes(2);
    StopAfter never(kNever);
    ScheduleSearchOptions options{.stop = never.Check()};
    const auto whole = FindSchedule(instance, prices, options, {}, lanes, go_on);
    ASSERT_THAT(whole, test_support::IsOk());
    for (int i = 0; i < 40; ++i) {
      const uint64_t questions = rng.Below(i < 20 ? never.asked() : 20);
      SCOPED_TRACE(absl::StrCat(test_support::NameOf(model), ", stopped after ", questions, " of ",
                                never.asked(), " questions"));
      StopAfter some(questions);
      options.stop = some.Check();
      const auto result = FindSchedule(instance, prices, options, {}, lanes, go_on);
      // Once told, it is over: some questions may be of what does not pass the answer on.
      EXPECT_LE(some.asked(), questions + 4);
      if (!result.ok()) {
        EXPECT_THAT(result, test_support::StatusIs(absl::StatusCode::kNotFound));
        ++none;
        continue;
      }
      ++found;
      ASSERT_OK_AND_ASSIGN(const ScheduleTime time, CheckSchedule(instance, result->schedule));
      EXPECT_EQ(time.picoseconds, result->time.picoseconds);
      EXPECT_GE(result->seconds, whole->seconds);
    }
  }
  EXPECT_GT(found, 0u);
  EXPECT_GT(none, 0u);
}

}  // namespace
}  // namespace kvtier::bound
