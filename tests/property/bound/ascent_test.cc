// Ascended prices reach what is known in closed form, never pass the truth, behave as a bound must
// when the machine changes, and are the same for every number of lanes.
#include "tiering/bound/ascent.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <vector>

#include "tests/support/bound/brute_force.h"
#include "tests/support/bound/lanes_in_turn.h"
#include "tests/support/bound/random_instance.h"
#include "tests/support/bound/synthetic.h"
#include "tests/support/test_seed.h"
#include "tiering/bound/dual_solver.h"
#include "tiering/bound/evaluation.h"
#include "tiering/bound/polish.h"
#include "tiering/bound/price_space.h"
#include "tiering/bound/special_prices.h"

namespace kvtier {
namespace {

using bound::Instance;
using bound::Prices;
using test_support::SyntheticModel;

bound::DualResult Solve(const Instance& instance, uint32_t iterations = 300) {
  InlineExecutor executor;
  return SolveDual(instance, {.iterations = iterations}, executor, nullptr);
}

double Hard(const Instance& instance, const Prices& prices) {
  InlineExecutor executor;
  return bound::Evaluator(instance, executor).Hard(prices, nullptr);
}

TEST(BoundAscentTest, SimplexProjectionIsNearest) {
  Rng rng(test_support::TestSeed(21));
  for (int i = 0; i < 1000; ++i) {
    const size_t size = 1 + rng.Below(6);
    std::vector<double> point(size), reach(size, 1);
    for (double& x : point) x = 4 * rng.Unit() - 2;
    if (i % 2 == 1) {
      for (double& x : reach) x = 0.03 + rng.Unit();
    }
    std::vector<double> nearest = point;
    bound::ProjectOnSimplex(absl::MakeSpan(nearest), reach);
    double sum = 0, product = 0;
    for (const double x : nearest) {
      EXPECT_GE(x, 0);
      sum += x;
    }
    EXPECT_NEAR(sum, 1, 1e-12);
    // Nearest of a convex set: no corner lies at an acute angle.
    for (size_t corner = 0; corner < size; ++corner) {
      product = 0;
      for (size_t k = 0; k < size; ++k) {
        product += (point[k] - nearest[k]) / reach[k] * ((k == corner ? 1.0 : 0.0) - nearest[k]);
      }
      EXPECT_LE(product, 1e-10);
    }
    // However far away the point lies.
    const double far = std::pow(10.0, static_cast<double>(rng.Below(40)));
    for (double& x : point) x *= far;
    bound::ProjectOnSimplex(absl::MakeSpan(point), reach);
    EXPECT_NEAR(std::accumulate(point.begin(), point.end(), 0.0), 1, 1e-12);
  }
}

// Where nothing is placed the bound is linear, and steps of a polish would go any way.
TEST(BoundAscentTest, NothingToPlaceIsTheBaseLoad) {
  Instance instance =
      test_support::Synthetic({.model = SyntheticModel::kExclusive, .blocks = 1, .steps = 1});
  instance.birth.clear();
  instance.death.clear();
  instance.block_class.clear();
  instance.access_phase.clear();
  instance.first_access = {0};
  double longest = 0;
  for (size_t r = 0; r < instance.resources.size(); ++r) {
    instance.base_load[r] = uint64_t{1'000'000'000} * (1 + r);
    longest = std::max(longest, static_cast<double>(instance.base_load[r]) /
                                    static_cast<double>(instance.resources[r].units_per_second));
  }
  ASSERT_TRUE(Check(instance).ok()) << Check(instance);
  double reported = 0;
  InlineExecutor executor;
  const bound::DualResult result =
      SolveDual(instance, {}, executor, [&](const bound::DualProgress& at) {
        reported = std::max(reported, at.bound);
        return true;
      });
  EXPECT_NEAR(result.bound, longest, 1e-9 * longest);
  EXPECT_LE(reported, longest * (1 + 1e-9));
  const auto share = result.prices.Share(0);
  EXPECT_LE(std::accumulate(share.begin(), share.end(), 0.0), 1 + 1e-12);
}

TEST(BoundAscentTest, NeverAboveTheTruth) {
  Rng rng(test_support::TestSeed(22));
  for (const auto model : test_support::kBoundModels) {
    for (int i = 0; i < 15; ++i) {
      const Instance instance = test_support::RandomInstance(model, {}, rng);
      const double truth = test_support::LeastSeconds(instance);
      const bound::DualResult result = Solve(instance, 150);
      EXPECT_LE(result.bound, truth * (1 + 1e-9)) << test_support::NameOf(model) << " " << i;
      EXPECT_GE(result.bound, result.special_seconds);
      EXPECT_GE(result.special_seconds, result.roofline_seconds);
      EXPECT_EQ(result.bound, Hard(instance, result.prices));
      for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
        const auto share = result.prices.Share(phase);
        EXPECT_LE(std::accumulate(share.begin(), share.end(), 0.0), 1 + 1e-12);
      }
    }
  }
}

// The same with `times` phases for each, reads in the first of them.
Instance Stretched(const Instance& instance, uint32_t times) {
  Instance stretched = instance;
  const size_t resources = instance.resources.size();
  stretched.phase_count = times * instance.phase_count;
  stretched.base_load.assign(stretched.phase_count * resources, 0);
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
    const auto base = instance.BaseLoad(phase);
    std::copy(base.begin(), base.end(), &stretched.base_load[phase * times * resources]);
  }
  for (auto* const phases : {&stretched.birth, &stretched.death, &stretched.access_phase}) {
    for (uint32_t& phase : *phases) phase *= times;
  }
  return stretched;
}

// Phases in which nothing happens cost nothing, and an ascent is not led astray by what blocks may
// do in them.
TEST(BoundAscentTest, IdlePhasesDoNotMatter) {
  const Instance instance = test_support::Synthetic(
      {.model = SyntheticModel::kExclusive, .blocks = 300, .steps = 50, .seed = 9});
  const auto ascended = [](const Instance& of) {
    InlineExecutor executor;
    bound::Evaluator evaluator(of, executor);
    return bound::Ascend(evaluator, bound::PriceSpace(of).Start(), {.iterations = 80}, nullptr)
        .bound;
  };
  const double bound = ascended(instance);
  const double stretched = ascended(Stretched(instance, 200));
  EXPECT_LE(stretched, bound * 1.01);
  EXPECT_GE(stretched, bound * 0.99);
}

// An ascent whose time is up before its iterations ends then, and has cooled down.
TEST(BoundAscentTest, CoolsDownInTheTimeThereIs) {
  const Instance instance = test_support::Synthetic(
      {.model = SyntheticModel::kExclusive, .blocks = 600, .steps = 60, .seed = 10});
  InlineExecutor executor;
  bound::Evaluator evaluator(instance, executor);
  const Prices start = bound::PriceSpace(instance).Start();
  const auto ascended = [&](double first_temperature, uint32_t in_time) {
    uint32_t reached = 0;
    const auto note = [&](const bound::AscentProgress& at) {
      reached = at.iteration;
      return true;
    };
    bound::AscentOptions options{.first_temperature = first_temperature};
    options.spent = [&] { return static_cast<double>(reached) / in_time; };
    const double bound = bound::Ascend(evaluator, start, options, note).bound;
    EXPECT_EQ(reached, in_time);
    return bound;
  };
  const auto cut = [&](double first_temperature, uint32_t iterations) {
    const auto before = [&](const bound::AscentProgress& at) { return at.iteration < iterations; };
    return bound::Ascend(evaluator, start, {.first_temperature = first_temperature}, before).bound;
  };
  // So hot that the way down is what counts.
  EXPECT_GT(ascended(10, 100), 1.05 * cut(10, 100));
}

// The clock says nothing to an ascent whose time is more than its iterations take.
TEST(BoundAscentTest, TimeToSpareDoesNotMatter) {
  const Instance instance = test_support::Synthetic({.blocks = 400, .steps = 50, .seed = 11});
  InlineExecutor executor;
  bound::Evaluator evaluator(instance, executor);
  const Prices start = bound::PriceSpace(instance).Start();
  Rng rng(test_support::TestSeed(11));
  const auto ascended = [&](bool timed) {
    bound::AscentOptions options{.iterations = 60};
    double iterations = 0;
    const auto note = [&](const bound::AscentProgress& at) {
      iterations = at.iteration;
      return true;
    };
    if (timed) options.spent = [&] { return (0.01 + 0.01 * rng.Unit()) + 0.5 * iterations / 60; };
    return bound::Ascend(evaluator, start, options, note);
  };
  const bound::Priced untimed = ascended(false);
  const bound::Priced timed = ascended(true);
  EXPECT_EQ(timed.bound, untimed.bound);
  EXPECT_EQ(timed.prices.share, untimed.prices.share);
  EXPECT_EQ(timed.prices.room, untimed.prices.room);
}

// Where a cool ascent ends, smoothing still costs a part of the bound that a polish finds: it comes
// to within a ten-thousandth of what ten times the iterations find, and an ascent alone does not.
TEST(BoundAscentTest, PolishFindsWhatSmoothingHides) {
  const Instance instance = test_support::Synthetic(
      {.model = SyntheticModel::kExclusive, .blocks = 200, .steps = 60, .seed = 12});
  InlineExecutor executor;
  bound::Evaluator evaluator(instance, executor);
  const auto ascended = [&](uint32_t iterations, double last_temperature) {
    return bound::Ascend(evaluator, bound::PriceSpace(instance).Start(),
                         {.iterations = iterations, .last_temperature = last_temperature}, nullptr);
  };
  const double known = ascended(2500, 1e-4).bound;
  const bound::Priced start = ascended(300, 0.003);
  EXPECT_LT(start.bound, known * 0.9998);
  const bound::Priced polished = bound::Polish(evaluator, start, 600, nullptr);
  EXPECT_GT(polished.bound, known * 0.9999);
  EXPECT_EQ(polished.bound, Hard(instance, polished.prices));
  // It ends where it is told to, with the best so far.
  uint32_t asked = 0;
  const auto ten = [&](const bound::AscentProgress&) { return ++asked <= 10; };
  const bound::Priced cut = bound::Polish(evaluator, start, 600, ten);
  EXPECT_EQ(asked, 11u);
  EXPECT_GE(cut.bound, start.bound);
  EXPECT_LE(cut.bound, polished.bound);
}

// All blocks are read in every phase: what the GPU's memory holds is read there, the rest beside
// it.
TEST(BoundAscentTest, DenseReadsAreClosedForm) {
  const Instance instance = test_support::Synthetic({.model = SyntheticModel::kExclusive,
                                                     .blocks = 200,
                                                     .steps = 12,
                                                     .read_share = 1,
                                                     .gpu_share = 0.25});
  const double all = 200.0 * (1 << 20);
  const double seconds = 12 * std::max(0.75 * all / 50e9, all / 450e9);
  const double bound = Solve(instance).bound;
  EXPECT_LE(bound, seconds * (1 + 1e-12));
  EXPECT_GE(bound, seconds * 0.9999);
}

// With a peer, which of the memories together are the bottleneck depends on what two of them hold.
TEST(BoundAscentTest, DenseReadsOfThreeTiersAreClosedForm) {
  constexpr double kAll = 200.0 * (1 << 20), kGpu = 400e9, kPeer = 150e9, kHost = 50e9;
  struct Case {
    double gpu_share, peer_share, step_seconds;
  };
  for (const Case& one :
       {Case{0.25, 0.2, 0.55 * kAll / kHost}, Case{0.3, 0.7, 0.7 * kAll / (kPeer + kHost)},
        Case{0.9, 0.09, 0.91 * kAll / (kGpu + kHost)},
        Case{0.9, 0.9, kAll / (kGpu + kPeer + kHost)}}) {
    SCOPED_TRACE(one.step_seconds);
    const Instance instance = test_support::Synthetic({.model = SyntheticModel::kThreeTiers,
                                                       .blocks = 200,
                                                       .steps = 12,
                                                       .read_share = 1,
                                                       .gpu_share = one.gpu_share,
                                                       .peer_share = one.peer_share});
    const double bound = Solve(instance).bound;
    EXPECT_LE(bound, 12 * one.step_seconds * (1 + 1e-7));  // capacities are whole bytes
    EXPECT_GE(bound, 12 * one.step_seconds * 0.997);       // which so many iterations come to
  }
}

// C of N blocks fit, and each is read once a round: at least N - C of them come over the link.
TEST(BoundAscentTest, CyclicScanMissesWhatDoesNotFit) {
  constexpr uint32_t kBlocks = 24, kRounds = 12, kFit = 16;
  Instance instance =
      test_support::Synthetic({.model = SyntheticModel::kStream, .blocks = kBlocks, .steps = 1});
  instance.tiers[0].capacity_bytes = kFit << 20;
  instance.phase_count = kBlocks * kRounds;
  instance.base_load.assign(instance.phase_count * instance.resources.size(), 0);
  instance.first_access = {0};
  instance.access_phase.clear();
  for (uint32_t b = 0; b < kBlocks; ++b) {
    instance.death[b] = instance.phase_count;
    for (uint32_t round = 0; round < kRounds; ++round) {
      instance.access_phase.push_back(round * kBlocks + b);
    }
    instance.first_access.push_back(instance.access_phase.size());
  }
  ASSERT_TRUE(Check(instance).ok()) << Check(instance);
  // The first round's misses depend on what was there; afterwards each round has N - C.
  const double block_seconds = (1 << 20) / 50e9;
  const double least = (kRounds - 1) * (kBlocks - kFit) * block_seconds;
  const double bound = Solve(instance, 600).bound;
  EXPECT_GE(bound, least * 0.99);
  EXPECT_LE(bound, (least + (kBlocks - kFit) * block_seconds) * (1 + 1e-9));
}

// The best case of arXiv 2508.13231 with 40 % of all past tokens read, where memory never binds:
// 10,240 steps of 32 layers, each of which reads its weights and the tokens' KV through the GPU's
// memory and the other together. A step's layers are alike, so a phase is a step; its tokens are
// blocks of 1, 2, 4, ... tokens, read as the number of tokens is written in binary.
TEST(BoundAscentTest, GoldenValueOfThePaper) {
  constexpr uint64_t kLayers = 32, kWeights = 162'889'728, kTokenBytes = 16'384;
  constexpr uint32_t kFirst = 31'299, kSteps = 10'240, kDigits = 15;
  Instance instance = test_support::Synthetic(
      {.model = SyntheticModel::kInclusive, .blocks = kDigits, .steps = 1, .classes = kDigits});
  instance.resources[0].units_per_second = 4'900'000'000'000;
  instance.resources[1].units_per_second = 450'000'000'000;
  for (bound::Tier& tier : instance.tiers) tier.capacity_bytes = uint64_t{1} << 50;
  instance.phase_count = kSteps;
  instance.base_load.assign(kSteps * instance.resources.size(), 0);
  instance.first_access = {0};
  instance.access_phase.clear();
  for (uint32_t step = 0; step < kSteps; ++step) {
    instance.base_load[step * instance.resources.size()] = kLayers * kWeights;
  }
  for (uint32_t digit = 0; digit < kDigits; ++digit) {
    instance.classes[digit].bytes = (kLayers * kTokenBytes) << digit;
    instance.death[digit] = kSteps;
    for (uint32_t step = 0; step < kSteps; ++step) {
      const uint32_t tokens = (2 * (kFirst + step + 1) + 4) / 5;  // 0.4 of them, rounded up
      if ((tokens >> digit & 1) != 0) instance.access_phase.push_back(step);
    }
    instance.first_access.push_back(instance.access_phase.size());
  }
  ASSERT_TRUE(Check(instance).ok()) << Check(instance);
  const bound::DualResult result = Solve(instance, 10);
  EXPECT_NEAR(result.roofline_seconds, 24.59591294822874, 1e-10 * 24.6);
  EXPECT_NEAR(result.bound, 24.59591294822874, 1e-10 * 24.6);
}

TEST(BoundAscentTest, LanesDoNotMatter) {
  const Instance instance = test_support::Synthetic({.blocks = 3000, .steps = 60, .classes = 2});
  const bound::DualOptions options = {.iterations = 30, .full_accesses = 100'000};
  InlineExecutor one;
  const bound::DualResult first = SolveDual(instance, options, one, nullptr);
  for (const size_t lanes : {2, 5}) {
    test_support::LanesInTurn executor(lanes);
    const bound::DualResult result = SolveDual(instance, options, executor, nullptr);
    EXPECT_EQ(result.bound, first.bound);
    EXPECT_EQ(result.prices.share, first.prices.share);
    EXPECT_EQ(result.prices.room, first.prices.room);
  }
}

}  // namespace
}  // namespace kvtier
