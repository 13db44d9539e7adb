// A run that is stopped ends at once, with nothing or with what its certificate proves; time that
// is up within the first evaluation is an error that says so, and later it is not.
#include "sim/bound_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"
#include "tests/support/bound/brute_force.h"
#include "tests/support/bound/random_instance.h"
#include "tests/support/status_matchers.h"
#include "tests/support/stop_after.h"
#include "tests/support/test_seed.h"
#include "tiering/bound/verifier.h"

namespace kvtier::sim {
namespace {

using bound::Instance;
using test_support::StatusIs;
using test_support::StopAfter;
using ::testing::HasSubstr;

BoundRunOptions Quick() {
  BoundRunOptions options;
  options.dual.iterations = 8;
  options.dual.polish_iterations_min = 2;
  options.time_limit_s = 1e9;
  options.now_s = [] { return 0.0; };
  return options;
}

absl::StatusOr<BoundRun> RunOf(const Instance& instance, const BoundRunOptions& options) {
  InlineExecutor executor;
  return RunBound(instance, {}, options, {}, executor);
}

void ExpectProved(const Instance& instance, const BoundRun& run, double truth) {
  const auto seconds = bound::VerifiedSeconds(instance, run.certificate);
  ASSERT_THAT(seconds, test_support::IsOk());
  EXPECT_EQ(*seconds, run.lower_bound_s);
  EXPECT_LE(run.lower_bound_s, truth * (1 + 1e-9));
  EXPECT_THAT(run.Check(), test_support::IsOk());
}

TEST(BoundRunTest, StoppedItIsCancelledOrTrue) {
  Rng rng(test_support::TestSeed(81));
  uint64_t cancelled = 0, true_ones = 0;
  for (const auto model : test_support::kBoundModels) {
    const Instance instance = test_support::RandomInstance(model, {}, rng);
    const double truth = test_support::LeastSeconds(instance);
    StopAfter never(std::numeric_limits<uint64_t>::max());
    BoundRunOptions options = Quick();
    options.stop = never.Check();
    const auto whole = RunOf(instance, options);
    ASSERT_THAT(whole, test_support::IsOk());
    ExpectProved(instance, *whole, truth);
    for (int i = 0; i < 30; ++i) {
      // From the end, too: there the certificate is there, and schedules are looked for.
      const uint64_t least = i % 2 == 0 ? 0 : never.asked() - never.asked() / 3;
      const uint64_t questions = least + rng.Below(never.asked() - least);
      SCOPED_TRACE(absl::StrCat(test_support::NameOf(model), ", stopped after ", questions, " of ",
                                never.asked(), " questions"));
      StopAfter some(questions);
      options.stop = some.Check();
      const auto run = RunOf(instance, options);
      EXPECT_LE(some.asked(), questions + 12);
      if (run.ok()) {
        ++true_ones;
        ExpectProved(instance, *run, truth);
        EXPECT_EQ(run->lower_bound_s, whole->lower_bound_s);
      } else {
        ++cancelled;
        EXPECT_THAT(run, StatusIs(absl::StatusCode::kCancelled));
      }
    }
  }
  EXPECT_GT(cancelled, 0u);
  EXPECT_GT(true_ones, 0u);
}

// A clock that goes on by `tick` whenever it is asked.
BoundRunOptions Ticking(double tick, double time_limit_s, double& now) {
  BoundRunOptions options = Quick();
  options.time_limit_s = time_limit_s;
  options.now_s = [&now, tick] { return now += tick; };
  return options;
}

TEST(BoundRunTest, TimeThatIsUpWithinTheFirstEvaluationIsAnError) {
  Rng rng(test_support::TestSeed(82));
  const Instance instance =
      test_support::RandomInstance(test_support::BoundModel::kExclusive, {}, rng);
  double now = 0;
  const auto run = RunOf(instance, Ticking(3, 2, now));
  EXPECT_THAT(
      run,
      StatusIs(absl::StatusCode::kDeadlineExceeded,
               HasSubstr(absl::StrCat("within 2 s; the time limit is 2 s, and the problem has ",
                                      instance.block_count(), " blocks with ",
                                      instance.access_count(), " accesses"))));
}

// Of so few seconds the certificate's whole numbers make out a part that shows, and no mistake.
TEST(BoundRunTest, RoundingOfTinyTimesIsNoError) {
  Instance instance;
  instance.tiers = {{"mem", 100}};
  instance.resources = {{"port", 1'000'000'000'000'000}};
  bound::OptionTable table({0}, 1);
  table.Add(0, 0, 0, {});
  table.Add(1, 0, 0, {.per_byte = {1}});
  instance.tables = {table};
  instance.classes = {{.bytes = 1, .table = 0, .start_states = 1}};
  instance.phase_count = 3;
  instance.base_load = {1, 1, 1};
  instance.block_class = {0};
  instance.birth = {0};
  instance.death = {3};
  instance.first_access = {0, 2};
  instance.access_phase = {0, 2};
  ASSERT_THAT(bound::Check(instance), test_support::IsOk());
  const auto run = RunOf(instance, Quick());
  ASSERT_THAT(run, test_support::IsOk());
  ExpectProved(instance, *run, 5e-15);
  EXPECT_GT(run->lower_bound_s, 0.9 * 5e-15);
  EXPECT_LT(run->lower_bound_s, 5e-15 * (1 - 1e-6)) << "rounding does not show";
  EXPECT_LE(run->roofline_s, run->lower_bound_s);
}

// Whatever the limit, there is a second for the first evaluation; and a run of any length is true.
TEST(BoundRunTest, TimeThatIsUpLaterIsNone) {
  Rng rng(test_support::TestSeed(83));
  for (const auto model : test_support::kBoundModels) {
    const Instance instance = test_support::RandomInstance(model, {}, rng);
    const double truth = test_support::LeastSeconds(instance);
    for (const double limit : {1e-3, 0.2, 1.0, 3.0, 20.0}) {
      SCOPED_TRACE(absl::StrCat(test_support::NameOf(model), ", ", limit, " s"));
      double now = 0;
      const auto run = RunOf(instance, Ticking(0.01, limit, now));
      ASSERT_THAT(run, test_support::IsOk());
      ExpectProved(instance, *run, truth);
      EXPECT_GE(run->lower_bound_s, run->roofline_s * (1 - 1e-9));
      // By time alone: the certificate, and the end of what was begun.
      EXPECT_LT(run->seconds, std::max(limit, 1.0) + 1);
    }
  }
}

}  // namespace
}  // namespace kvtier::sim
