// That the least time of a phase with divisible work is exact: the division found takes that long,
// and prices of the resources prove that nothing is faster. Where blocks are computed whole or not
// at all, that a few blocks' division is the best of all, and that of many where it is known.
#include "tiering/bound/primal/phase_split.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <iostream>
#include <limits>
#include <map>
#include <vector>

#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"
#include "tiering/bound/primal/whole_split.h"

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

// Blocks that are alike, and per block what each option takes.
struct WholeOption {
  uint16_t recomputes = 0;
  std::vector<double> seconds;
};
struct Alike {
  uint64_t blocks = 0;
  std::vector<WholeOption> options;
};

double Solve(WholeSplit& split, const std::vector<double>& fixed, const std::vector<Alike>& work) {
  split.Begin(fixed);
  for (const Alike& alike : work) {
    split.AddGroup(alike.blocks);
    for (const WholeOption& option : alike.options) {
      split.AddOption(option.recomputes, option.seconds);
    }
  }
  return split.Solve();
}

// How long the division takes; fails if it is none of whole blocks.
double TimeOfBlocks(const WholeSplit& split, std::vector<double> busy,
                    const std::vector<Alike>& work) {
  for (size_t g = 0; g < work.size(); ++g) {
    std::map<uint16_t, uint64_t> blocks;
    std::map<uint16_t, double> parts;
    for (size_t o = 0; o < work[g].options.size(); ++o) {
      const WholeOption& option = work[g].options[o];
      blocks.emplace(option.recomputes, split.blocks(g, o));
      EXPECT_EQ(blocks.at(option.recomputes), split.blocks(g, o));
      EXPECT_GE(split.part(g, o), 0);
      parts[option.recomputes] += split.part(g, o);
      for (size_t r = 0; r < busy.size(); ++r) {
        busy[r] += static_cast<double>(split.blocks(g, o)) * split.part(g, o) * option.seconds[r];
      }
    }
    uint64_t all = 0;
    for (const auto& [recomputes, of_level] : blocks) {
      all += of_level;
      EXPECT_NEAR(parts[recomputes], 1, 1e-9);
    }
    EXPECT_EQ(all, work[g].blocks);
  }
  return *std::max_element(busy.begin(), busy.end());
}

// The least over all ways to say of each block how often it is computed. Each block is a group of
// its own in `chosen`.
double LeastOfAll(const std::vector<double>& fixed, const std::vector<Alike>& work, size_t group,
                  uint64_t block, Work& chosen) {
  if (group == work.size()) {
    PhaseSplit split(fixed.size());
    return Solve(split, fixed, chosen);
  }
  if (block == work[group].blocks) return LeastOfAll(fixed, work, group + 1, 0, chosen);
  std::map<uint16_t, std::vector<std::vector<double>>> levels;
  for (const WholeOption& option : work[group].options) {
    levels[option.recomputes].push_back(option.seconds);
  }
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [recomputes, options] : levels) {
    chosen.push_back(options);
    least = std::min(least, LeastOfAll(fixed, work, group, block + 1, chosen));
    chosen.pop_back();
  }
  return least;
}

TEST(WholeSplitTest, FewBlocksAreDividedAsWellAsTryingAllFinds) {
  Rng rng(test_support::TestSeed(3));
  for (int round = 0; round < 600; ++round) {
    const size_t resources = 1 + rng.Below(4);
    std::vector<double> fixed(resources);
    for (double& busy : fixed) busy = rng.OneIn(2) ? 0 : 3 * rng.Unit();
    std::vector<Alike> work(rng.Below(4));
    size_t blocks = 0;
    for (Alike& alike : work) {
      alike.blocks = 1 + (blocks < 4 ? rng.Below(2) : 0);
      blocks += alike.blocks;
      alike.options.resize(1 + rng.Below(4));
      for (WholeOption& option : alike.options) {
        option.recomputes = static_cast<uint16_t>(rng.Below(3));
        option.seconds.resize(resources);
        for (double& busy : option.seconds) busy = rng.OneIn(3) ? 0 : rng.Unit();
      }
    }
    WholeSplit split(resources);
    const double time = Solve(split, fixed, work);
    EXPECT_NEAR(TimeOfBlocks(split, fixed, work), time, 1e-9 * (1 + time)) << "round " << round;
    EXPECT_LE(split.divided_seconds(), time * (1 + 1e-9));
    Work chosen;
    const double least = LeastOfAll(fixed, work, 0, 0, chosen);
    EXPECT_GE(time, least * (1 - 1e-9)) << "round " << round;
    uint64_t ways = 1;
    for (const Alike& alike : work) {
      for (uint64_t block = 0; block < alike.blocks; ++block) ways *= 3;
    }
    if (ways <= 64) {
      EXPECT_NEAR(time, least, 1e-9 * (1 + least)) << "round " << round;
    }
  }
}

TEST(WholeSplitTest, ManyBlocksThatTakeAsLongToReadAreDividedBest) {
  // A request's chunks: the further behind, the longer to compute, so those in front are computed.
  Rng rng(test_support::TestSeed(4));
  for (int round = 0; round < 50; ++round) {
    const std::vector<double> fixed = {0.01, 0.3 * rng.Unit(), 0.02};
    const double read = 1e-3 * (1 + rng.Unit());
    std::vector<Alike> work;
    std::vector<double> compute;
    for (int g = 0; g < 150; ++g) {
      const double again = 2e-3 * (1 + 0.01 * g);
      work.push_back({1 + rng.Below(3), {{0, {read, 0, read / 3}}, {1, {0, again, 0}}}});
      compute.insert(compute.end(), work.back().blocks, again);
    }
    double least = std::numeric_limits<double>::infinity();
    double computed = fixed[1];
    for (size_t front = 0; front <= compute.size(); ++front) {
      const double reads = static_cast<double>(compute.size() - front) * read;
      least = std::min(least, std::max({fixed[0] + reads, computed, fixed[2] + reads / 3}));
      if (front < compute.size()) computed += compute[front];
    }
    WholeSplit split(3);
    const double time = Solve(split, fixed, work);
    EXPECT_NEAR(TimeOfBlocks(split, fixed, work), time, 1e-12);
    EXPECT_GE(time, least * (1 - 1e-12)) << "round " << round;
    EXPECT_LE(time, least * (1 + 1e-4)) << "round " << round;
  }
}

TEST(WholeSplitTest, UnlikeBlocksAreDividedNearlyAsWellAsTryingAllFinds) {
  // More than are tried by the split itself; each has lengths of its own.
  Rng rng(test_support::TestSeed(5));
  double sum = 0;
  constexpr int kRounds = 40;
  constexpr size_t kBlocks = 14;
  for (int round = 0; round < kRounds; ++round) {
    const std::vector<double> fixed = {rng.Unit(), 3 * rng.Unit(), rng.Unit()};
    std::vector<Alike> work;
    for (size_t g = 0; g < kBlocks; ++g) {
      const double read = 1 + rng.Unit(), stored = rng.Unit(), again = 1 + 3 * rng.Unit();
      work.push_back({1, {{0, {read, 0, stored}}, {1, {0, again, 2 * stored}}}});
    }
    double least = std::numeric_limits<double>::infinity();
    for (uint32_t computed = 0; computed < 1u << kBlocks; ++computed) {
      std::array<double, 3> busy = {fixed[0], fixed[1], fixed[2]};
      for (size_t g = 0; g < kBlocks; ++g) {
        const std::vector<double>& taken = work[g].options[computed >> g & 1].seconds;
        for (size_t r = 0; r < 3; ++r) busy[r] += taken[r];
      }
      least = std::min(least, *std::max_element(busy.begin(), busy.end()));
    }
    WholeSplit split(3);
    const double time = Solve(split, fixed, work);
    EXPECT_NEAR(TimeOfBlocks(split, fixed, work), time, 1e-9 * time);
    EXPECT_GE(time, least * (1 - 1e-9)) << "round " << round;
    sum += time / least - 1;
  }
  std::cout << "longer by " << sum / kRounds << " on average\n";
  // Eight seeds gave 0.0031 at most; without pairs it is 0.011 and more.
  EXPECT_LE(sum / kRounds, 0.007);
}

// One block has a choice, and 200,000 blocks unlike each other have none.
TEST(WholeSplitTest, AnyNumberOfGroups) {
  std::vector<Alike> work(200'000, {1, {{0, {1e-6, 0}}}});
  work.push_back({1, {{0, {0.5, 0}}, {1, {0, 0.4}}}});
  WholeSplit split(2);
  const double time = Solve(split, {0, 0.3}, work);
  EXPECT_NEAR(time, 0.7, 1e-9);
}

TEST(WholeSplitTest, OneBlockIsReadOrComputed) {
  WholeSplit split(2);
  // Half of it each way would take half a second.
  const std::vector<Alike> work = {{1, {{0, {1, 0}}, {1, {0, 1.1}}}}};
  EXPECT_DOUBLE_EQ(Solve(split, {0, 0}, work), 1);
  EXPECT_EQ(split.blocks(0, 0), 1u);
  EXPECT_DOUBLE_EQ(Solve(split, {0.5, 0}, work), 1.1);
  EXPECT_EQ(split.blocks(0, 1), 1u);
}

}  // namespace
}  // namespace kvtier::bound
