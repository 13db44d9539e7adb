// Proves that the bound holds: on small problems of every kind, no prices give more than the time
// of the best schedule there is, found by trying all; and that it is worth having: good prices come
// close.
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <vector>

#include "tests/support/bound/brute_force.h"
#include "tests/support/bound/phase_optimum.h"
#include "tests/support/bound/random_instance.h"
#include "tests/support/bound/random_prices.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"
#include "tiering/bound/naive_evaluation.h"

namespace kvtier::bound {
namespace {

using test_support::BoundModel;
using test_support::LeastPhaseSeconds;
using test_support::Loads;

constexpr int kInstances = 80;  // of each kind; of four tiers a quarter
constexpr int kPrices = 40;     // for each instance
constexpr int kEvaluations = 400;

// As many blocks as trying all placements takes: kinds with two states can have more.
test_support::RandomSize SizeOf(BoundModel model) {
  if (model == BoundModel::kFourTiers) return {.blocks_max = 2, .phases_max = 4};
  const bool many = model == BoundModel::kThreeTiers || model == BoundModel::kRecompute;
  return many ? test_support::RandomSize{.blocks_max = 4, .phases_max = 5}
              : test_support::RandomSize{.blocks_max = 6, .phases_max = 6};
}

class BoundTruthTest : public ::testing::TestWithParam<BoundModel> {};

TEST_P(BoundTruthTest, NoPricesExceedTheBestSchedule) {
  Rng rng(test_support::TestSeed(1000 + static_cast<uint64_t>(GetParam())));
  double sum_of_ratios = 0;
  int positive = 0;
  const int instances = GetParam() == BoundModel::kFourTiers ? kInstances / 4 : kInstances;
  for (int i = 0; i < instances; ++i) {
    SCOPED_TRACE(i);
    const Instance instance = test_support::RandomInstance(GetParam(), SizeOf(GetParam()), rng);
    const double least = test_support::LeastSeconds(instance);
    ASSERT_TRUE(std::isfinite(least));
    const long double limit = least * (1 + 1e-12L) + 1e-12L;
    for (int trial = 0; trial < kPrices; ++trial) {
      const Prices prices = test_support::RandomPrices(instance, rng);
      ASSERT_LE(EvaluateNaively(instance, prices).bound_seconds, limit);
    }
    const Prices good = test_support::SearchPrices(instance, kEvaluations, rng);
    const long double bound = EvaluateNaively(instance, good).bound_seconds;
    ASSERT_LE(bound, limit);
    if (least == 0) continue;
    ++positive;
    sum_of_ratios += static_cast<double>(bound / least);
  }
  ASSERT_GT(positive, instances / 2);
  std::cout << test_support::NameOf(GetParam()) << ": found prices give "
            << sum_of_ratios / positive << " of the best time on average\n";
  // Of two blocks, and with seven resources and four tiers, a random search finds less.
  EXPECT_GT(sum_of_ratios / positive, GetParam() == BoundModel::kFourTiers ? 0.6 : 0.8);
}

INSTANTIATE_TEST_SUITE_P(Models, BoundTruthTest, ::testing::ValuesIn(test_support::kBoundModels));
INSTANTIATE_TEST_SUITE_P(FourTiers, BoundTruthTest, ::testing::Values(BoundModel::kFourTiers));

// The best schedule is only a measure if a phase's best split is found.
TEST(PhaseOptimum, SplitsAsWellAsPossible) {
  // One group that is read from either of two memories, the second three times as fast.
  EXPECT_NEAR(LeastPhaseSeconds({0, 0}, {{{3, 0}, {0, 1}}}), 0.75, 1e-12);
  // What is fixed shifts the balance, or leaves none.
  EXPECT_NEAR(LeastPhaseSeconds({1, 0}, {{{3, 0}, {0, 3}}}), 2, 1e-12);
  EXPECT_NEAR(LeastPhaseSeconds({9, 0}, {{{3, 0}, {0, 3}}}), 9, 1e-12);
  EXPECT_NEAR(LeastPhaseSeconds({0, 2}, {{{1, 1}}}), 3, 1e-12);
}

// Against a fine grid of splits of two groups over three resources.
TEST(PhaseOptimum, NoSplitOnAGridIsBetter) {
  Rng rng(test_support::TestSeed(7));
  for (int round = 0; round < 300; ++round) {
    std::vector<std::vector<Loads>> groups(2);
    Loads base(3);
    for (double& load : base) load = static_cast<double>(rng.Below(3));
    for (std::vector<Loads>& options : groups) {
      for (int option = 0; option < 2; ++option) {
        options.emplace_back(3);
        for (double& load : options.back()) load = static_cast<double>(rng.Below(5));
      }
    }
    double grid = INFINITY;
    constexpr int kSteps = 60;
    for (int a = 0; a <= kSteps; ++a) {
      for (int b = 0; b <= kSteps; ++b) {
        double time = 0;
        for (size_t r = 0; r < 3; ++r) {
          const double first = groups[0][0][r] * a + groups[0][1][r] * (kSteps - a);
          const double second = groups[1][0][r] * b + groups[1][1][r] * (kSteps - b);
          time = std::max(time, base[r] + (first + second) / kSteps);
        }
        grid = std::min(grid, time);
      }
    }
    const double least = LeastPhaseSeconds(base, groups);
    ASSERT_LE(least, grid + 1e-12);
    ASSERT_GE(least,
              grid - 8.0 / kSteps);  // no load changes by more from one grid point to the next
  }
}

}  // namespace
}  // namespace kvtier::bound
