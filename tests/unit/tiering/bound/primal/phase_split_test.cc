// That the least time of a phase with divisible work is exact: the division found takes that long,
// and prices of the resources prove that nothing is faster.
#include "tiering/bound/primal/phase_split.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::bound {
namespace {

// [group][option][resource], seconds.
using Work = std::vector<std::vector<std::vector<double>>>;

double Solve(PhaseSplit& split, const std::vector<double>& fixed, const Work& work) {
  split.Begin(fixed);
  for (const auto& group : work) {
    split.AddGroup();
    for (const auto& option : group) split.AddOption(option);
  }
  return split.Solve();
}

// How long the division takes; fails if its parts are no division.
double TimeOfParts(const PhaseSplit& split, std::vector<double> busy, const Work& work) {
  for (size_t g = 0; g < work.size(); ++g) {
    double whole = 0;
    for (size_t o = 0; o < work[g].size(); ++o) {
      const double part = split.parts(g)[o];
      EXPECT_GE(part, 0);
      whole += part;
      for (size_t r = 0; r < busy.size(); ++r) busy[r] += part * work[g][o][r];
    }
    EXPECT_NEAR(whole, 1, 1e-12);
  }
  return *std::max_element(busy.begin(), busy.end());
}

// What no division can be faster than, by the prices returned.
double BoundOfShares(const PhaseSplit& split, const std::vector<double>& fixed, const Work& work) {
  const auto priced = [&split](const std::vector<double>& seconds) {
    double cost = 0;
    for (size_t r = 0; r < seconds.size(); ++r) cost += split.shares()[r] * seconds[r];
    return cost;
  };
  double sum = 0;
  for (const double share : split.shares()) {
    EXPECT_GE(share, 0);
    sum += share;
  }
  EXPECT_NEAR(sum, 1, 1e-12);
  double bound = priced(fixed);
  for (const auto& group : work) {
    double least = priced(group[0]);
    for (const auto& option : group) least = std::min(least, priced(option));
    bound += least;
  }
  return bound;
}

TEST(PhaseSplitTest, WithoutChoicesTheSlowestResourceCounts) {
  PhaseSplit split(3);
  EXPECT_DOUBLE_EQ(Solve(split, {1, 4, 2}, {}), 4);
  EXPECT_DOUBLE_EQ(Solve(split, {1, 4, 2}, {{{5, 0, 0}}}), 6);
  EXPECT_DOUBLE_EQ(Solve(split, {0, 0, 0}, {}), 0);
}

TEST(PhaseSplitTest, TwoCopiesFinishTogether) {
  PhaseSplit split(2);
  // All from the first takes 1 second, all from the second 8.
  EXPECT_NEAR(Solve(split, {0, 0}, {{{1, 0}, {0, 8}}}), 8.0 / 9, 1e-10);
  EXPECT_NEAR(split.parts(0)[0], 8.0 / 9, 1e-9);
  // The first is busy with something else for longer than the second takes for all.
  EXPECT_NEAR(Solve(split, {9, 0}, {{{1, 0}, {0, 8}}}), 9, 1e-9);
  EXPECT_NEAR(split.parts(0)[1], 1, 1e-9);
}

TEST(PhaseSplitTest, RandomDivisionsAreProvedBest) {
  Rng rng(test_support::TestSeed(1));
  for (int round = 0; round < 3000; ++round) {
    const size_t resources = 1 + rng.Below(8);
    // Rates far from each other, as those of processors in operations and links in bytes are not:
    // times are in seconds, and a phase has short and long ones.
    const auto seconds = [&rng] {
      return rng.OneIn(3) ? 0 : rng.Unit() * (rng.OneIn(4) ? 1e-3 : 1);
    };
    std::vector<double> fixed(resources);
    for (double& busy : fixed) busy = seconds();
    Work work(rng.Below(20));
    for (auto& group : work) {
      group.resize(1 + rng.Below(4), std::vector<double>(resources));
      for (auto& option : group) {
        for (double& busy : option) busy = seconds();
      }
    }
    PhaseSplit split(resources);
    const double time = Solve(split, fixed, work);
    EXPECT_NEAR(TimeOfParts(split, fixed, work), time, 1e-12 * (1 + time));
    EXPECT_LE(time - BoundOfShares(split, fixed, work), 1e-9 * (1 + time)) << "round " << round;
  }
}

TEST(PhaseSplitTest, ManyUnlikeGroupsAreProvedBest) {
  // A request's blocks: each may be read over the link or computed again, at a ratio of its own.
  Rng rng(test_support::TestSeed(2));
  const std::vector<double> fixed = {0.01, 0.3, 0.02};
  Work work;
  for (int g = 0; g < 300; ++g) {
    const double read = 1e-3 * (1 + rng.Unit());
    work.push_back({{read, 0, read / 3}, {0, 1e-3 * (1 + 0.01 * g), 0}});
  }
  PhaseSplit split(3);
  const double time = Solve(split, fixed, work);
  EXPECT_LE(time - BoundOfShares(split, fixed, work), 1e-9 * time);
  EXPECT_NEAR(TimeOfParts(split, fixed, work), time, 1e-12);
}

}  // namespace
}  // namespace kvtier::bound
