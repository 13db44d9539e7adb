// Smaller problems bound larger ones: merged phases, windows and their lifted prices; prices of a
// sample are prices of the whole.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/support/bound/random_instance.h"
#include "tests/support/bound/random_prices.h"
#include "tests/support/bound/synthetic.h"
#include "tests/support/test_seed.h"
#include "tiering/bound/ascent.h"
#include "tiering/bound/block_sample.h"
#include "tiering/bound/dual_solver.h"
#include "tiering/bound/evaluation.h"
#include "tiering/bound/merged_phases.h"
#include "tiering/bound/naive_evaluation.h"
#include "tiering/bound/price_space.h"
#include "tiering/bound/window.h"

namespace kvtier {
namespace {

using bound::Instance;
using bound::Prices;
using test_support::BoundModel;

constexpr int kInstances = 40;  // of each model
constexpr test_support::RandomSize kSize = {.blocks_max = 5, .phases_max = 24, .accesses_max = 2};

double Bound(const Instance& instance, const Prices& prices) {
  return static_cast<double>(bound::EvaluateNaively(instance, prices).bound_seconds);
}

double RoomSize(const Instance& instance, const Prices& prices) {
  double size = 0;
  for (size_t i = 0; i < prices.room.size(); ++i) {
    size +=
        prices.room[i] * static_cast<double>(instance.tiers[i % prices.tier_count].capacity_bytes);
  }
  return size;
}

template <typename Visit>
void ForRandomInstances(uint64_t own_seed, const Visit& visit) {
  Rng rng(test_support::TestSeed(own_seed));
  for (const BoundModel model : test_support::kBoundModels) {
    for (int i = 0; i < kInstances; ++i) {
      SCOPED_TRACE(std::string(test_support::NameOf(model)) + " " + std::to_string(i));
      visit(test_support::RandomInstance(model, kSize, rng), rng);
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(BoundRelaxationTest, LiftedFromMergedPhasesIsNoLess) {
  int equal = 0, tried = 0;
  ForRandomInstances(11, [&](const Instance& instance, Rng& rng) {
    const auto length = static_cast<uint32_t>(2 + rng.Below(3));
    const auto merged = bound::MergePhases(instance, length, 16);
    ASSERT_TRUE(merged.ok()) << merged.status();
    ASSERT_TRUE(Check(*merged).ok()) << Check(*merged);
    const Prices prices = test_support::RandomPrices(*merged, rng);
    const Prices lifted = LiftFromMerged(prices, length, instance.phase_count);
    const double coarse = Bound(*merged, prices), fine = Bound(instance, lifted);
    const double tolerance = 1e-12 * (std::abs(coarse) + RoomSize(*merged, prices));
    EXPECT_GE(fine, coarse - tolerance);
    equal += fine <= coarse + tolerance ? 1 : 0;
    ++tried;
  });
  EXPECT_GT(equal, tried / 10) << "merged options are cheaper than need be";
}

// With one access of a block in a run and no births within one, a run of phases at equal prices
// costs what the merged one does.
TEST(BoundRelaxationTest, MergedLayersAreAsDearAsLayers) {
  using test_support::SyntheticModel;
  for (const SyntheticModel model : {SyntheticModel::kExclusive, SyntheticModel::kInclusive,
                                     SyntheticModel::kThreeTiers, SyntheticModel::kStream}) {
    const Instance instance =
        test_support::Synthetic({.model = model, .blocks = 160, .steps = 20, .layers = 8});
    Rng rng(test_support::TestSeed(12));
    const auto merged = bound::MergePhases(instance, 8, 1);
    ASSERT_TRUE(merged.ok()) << merged.status();
    const Prices prices = test_support::RandomPrices(*merged, rng);
    const double coarse = Bound(*merged, prices);
    EXPECT_NEAR(Bound(instance, LiftFromMerged(prices, 8, instance.phase_count)), coarse,
                1e-12 * (std::abs(coarse) + RoomSize(*merged, prices)));
  }
}

TEST(BoundRelaxationTest, MergingRefusesTooManyAccesses) {
  const Instance instance = test_support::Synthetic({.blocks = 50, .steps = 20});
  const auto merged = bound::MergePhases(instance, 4, 1);
  EXPECT_EQ(merged.status().code(), absl::StatusCode::kResourceExhausted);
}

// Merged, a block's run of phases is longer than its life: here it has no way through, and the
// solver does without merging.
TEST(BoundRelaxationTest, BlocksThatCannotIdleAreNotMerged) {
  Instance instance;
  instance.tiers = {{"mem", 100}};
  instance.resources = {{"fast", 100}, {"slow", 10}};
  bound::OptionTable moves({0, 1}, 1), once({0}, 1);
  for (const bound::StateIndex to : {0, 1}) {
    moves.Add(0, to, to, {});
    moves.Add(1, 0, to, {.per_byte = {0, 1}});
    moves.Add(1, 1, to, {.per_byte = {1, 0}});
  }
  moves.Add(0, 1, 0, {});
  once.Add(1, 0, 0, {.per_byte = {0, 1}});
  instance.tables = {moves, once};
  instance.classes = {{.bytes = 10, .table = 0, .start_states = 1},
                      {.bytes = 10, .table = 1, .start_states = 1}};
  instance.phase_count = 60;
  instance.base_load.assign(120, 1);
  instance.first_access = {0};
  const auto add = [&instance](uint32_t block_class, uint32_t death, uint32_t first) {
    instance.block_class.push_back(block_class);
    instance.birth.push_back(0);
    instance.death.push_back(death);
    for (uint32_t phase = first; phase < death; phase += 3) instance.access_phase.push_back(phase);
    instance.first_access.push_back(instance.access_phase.size());
  };
  for (uint32_t block = 0; block < 20; ++block) add(0, 60, block % 3);
  add(1, 1, 0);
  ASSERT_TRUE(bound::Check(instance).ok()) << bound::Check(instance);
  ASSERT_TRUE(bound::MergePhases(instance, 3, 1).ok());
  InlineExecutor executor;
  const bound::DualResult dual = bound::SolveDual(instance, {}, executor, {});
  // Ten blocks fit, and each second of the slow resource serves one.
  EXPECT_GT(dual.bound, 200);
  EXPECT_LE(dual.bound, Bound(instance, dual.prices) * (1 + 1e-9));
}

TEST(BoundRelaxationTest, WindowsSumToNoMore) {
  ForRandomInstances(13, [](const Instance& instance, Rng& rng) {
    Prices whole(instance.phase_count, instance.resources.size(), instance.tiers.size());
    double sum = 0, size = 0;
    for (uint32_t first = 0; first < instance.phase_count;) {
      const auto end =
          static_cast<uint32_t>(first + 1 + rng.Below(std::min(10u, instance.phase_count - first)));
      const Instance window = bound::Window(instance, first, end);
      ASSERT_TRUE(Check(window).ok()) << Check(window);
      const Prices prices = test_support::RandomPrices(window, rng);
      sum += Bound(window, prices);
      size += RoomSize(window, prices) + std::abs(sum);
      CopyPrices(prices, first, whole);
      const Prices again = bound::PricesOf(whole, first, end);
      EXPECT_EQ(again.share, prices.share);
      EXPECT_EQ(again.room, prices.room);
      first = end;
    }
    EXPECT_GE(Bound(instance, whole), sum - 1e-12 * size);
  });
}

TEST(BoundRelaxationTest, WindowOfAllIsTheWhole) {
  ForRandomInstances(14, [](const Instance& instance, Rng& rng) {
    const Prices prices = test_support::RandomPrices(instance, rng);
    const Instance window = bound::Window(instance, 0, instance.phase_count);
    EXPECT_EQ(Bound(window, prices), Bound(instance, prices));
  });
}

TEST(BoundRelaxationTest, SampledPricesComeClose) {
  const Instance instance = test_support::Synthetic({.blocks = 8000, .steps = 60, .classes = 2});
  const bound::BlockSample sample = bound::SampleBlocks(instance, 10, 3);
  ASSERT_TRUE(Check(sample.instance).ok()) << Check(sample.instance);
  EXPECT_EQ(sample.instance.block_count(), 800u);
  EXPECT_NEAR(sample.share, 0.1, 0.01);
  InlineExecutor executor;
  bound::Evaluator part(sample.instance, executor), all(instance, executor);
  const bound::AscentOptions options = {.iterations = 120, .first_temperature = 0.1};
  const auto sampled = Ascend(part, bound::PriceSpace(sample.instance).Start(), options, nullptr);
  const auto full = Ascend(all, bound::PriceSpace(instance).Start(), options, nullptr);
  const double lifted = all.Hard(bound::LiftFromSample(sampled.prices, sample.share), nullptr);
  EXPECT_GT(lifted, 0.97 * full.bound);
  EXPECT_NEAR(sampled.bound, full.bound, 0.05 * full.bound);
}

}  // namespace
}  // namespace kvtier
