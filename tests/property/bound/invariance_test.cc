// The bound at given prices changes with the problem as the problem's best time must.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/support/bound/random_instance.h"
#include "tests/support/bound/random_prices.h"
#include "tests/support/test_seed.h"
#include "tiering/bound/evaluation.h"

namespace kvtier {
namespace {

using bound::Evaluation;
using bound::Instance;
using bound::Prices;
using test_support::BoundModel;

constexpr int kInstances = 25;  // of each model

Evaluation Evaluate(const Instance& instance, const Prices& prices) {
  InlineExecutor executor;
  Evaluation evaluation;
  bound::Evaluator(instance, executor).Hard(prices, &evaluation);
  return evaluation;
}
double Bound(const Instance& instance, const Prices& prices) {
  return Evaluate(instance, prices).value;
}

// The blocks of `from` in this order, which may name one more than once.
Instance WithBlocks(const Instance& from, const std::vector<size_t>& order) {
  Instance to = from;
  to.block_class.clear();
  to.birth.clear();
  to.death.clear();
  to.first_access = {0};
  to.access_phase.clear();
  for (const size_t block : order) {
    to.block_class.push_back(from.block_class[block]);
    to.birth.push_back(from.birth[block]);
    to.death.push_back(from.death[block]);
    const auto accesses = from.Accesses(block);
    to.access_phase.insert(to.access_phase.end(), accesses.begin(), accesses.end());
    to.first_access.push_back(to.access_phase.size());
  }
  return to;
}

// Each block so many times in a row.
std::vector<size_t> Repeated(size_t blocks, size_t times) {
  std::vector<size_t> order;
  for (size_t block = 0; block < blocks; ++block) order.insert(order.end(), times, block);
  return order;
}

class BoundInvarianceTest : public testing::Test {
 protected:
  template <typename Visit>
  void ForRandom(uint64_t own_seed, const Visit& visit) {
    Rng rng(test_support::TestSeed(own_seed));
    for (const BoundModel model : test_support::kBoundModels) {
      for (int i = 0; i < kInstances; ++i) {
        SCOPED_TRACE(std::string(test_support::NameOf(model)) + " " + std::to_string(i));
        const Instance instance = test_support::RandomInstance(
            model, {.blocks_max = 6, .phases_max = 20, .accesses_max = 2}, rng);
        const Prices prices = test_support::RandomPrices(instance, rng);
        tolerance_ = 1e-300;
        for (size_t k = 0; k < prices.room.size(); ++k) {
          tolerance_ += 1e-12 * prices.room[k] *
                        static_cast<double>(instance.tiers[k % prices.tier_count].capacity_bytes);
        }
        const double value = Bound(instance, prices);
        tolerance_ += 1e-12 * std::abs(value);
        visit(instance, prices, value, rng);
        if (HasFailure()) return;
      }
    }
  }
  double tolerance_ = 0;
};

TEST_F(BoundInvarianceTest, TwiceTheRatesTakeHalfTheTime) {
  ForRandom(31, [](Instance instance, Prices prices, double value, Rng&) {
    for (auto& resource : instance.resources) resource.units_per_second *= 2;
    for (double& room : prices.room) room /= 2;
    EXPECT_EQ(Bound(instance, prices), value / 2);
  });
}

TEST_F(BoundInvarianceTest, ManyTimesTheBlocksOnAsLargeAMachine) {
  ForRandom(32, [this](const Instance& instance, Prices prices, double value, Rng&) {
    Instance larger = WithBlocks(instance, Repeated(instance.block_count(), 3));
    for (auto& tier : larger.tiers) tier.capacity_bytes *= 3;
    for (auto& resource : larger.resources) resource.units_per_second *= 3;
    for (uint64_t& load : larger.base_load) load *= 3;
    for (double& room : prices.room) room /= 3;
    EXPECT_NEAR(Bound(larger, prices), value, tolerance_);
  });
}

TEST_F(BoundInvarianceTest, HalvesOfBlocksAreTheWhole) {
  ForRandom(33, [this](Instance whole, const Prices& prices, double, Rng&) {
    for (auto& block_class : whole.classes) {
      block_class.bytes *= 2;
      block_class.recompute_units *= 2;
    }
    Instance halves = WithBlocks(whole, Repeated(whole.block_count(), 2));
    for (auto& block_class : halves.classes) {
      block_class.bytes /= 2;
      block_class.recompute_units /= 2;
    }
    const double value = Bound(whole, prices);
    EXPECT_NEAR(Bound(halves, prices), value, 4 * tolerance_ + 1e-12 * std::abs(value));
  });
}

TEST_F(BoundInvarianceTest, OrderOfBlocksDoesNotMatter) {
  ForRandom(34, [this](const Instance& instance, const Prices& prices, double value, Rng& rng) {
    std::vector<size_t> order = Repeated(instance.block_count(), 1);
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.Below(i)]);
    const Evaluation before = Evaluate(instance, prices);
    const Evaluation after = Evaluate(WithBlocks(instance, order), prices);
    EXPECT_EQ(after.load, before.load);
    EXPECT_EQ(after.occupancy, before.occupancy);
    EXPECT_NEAR(after.value, value, tolerance_);
  });
}

// At the same prices, so the best of the smaller machine is no less than that of the larger.
TEST_F(BoundInvarianceTest, LessMachineOrMoreWorkTakesNoLess) {
  ForRandom(35, [this](const Instance& instance, const Prices& prices, double value, Rng& rng) {
    Instance smaller = instance;
    auto& tier = smaller.tiers[rng.Below(smaller.tiers.size())];
    tier.capacity_bytes = rng.Below(tier.capacity_bytes + 1);
    EXPECT_GE(Bound(smaller, prices), value - tolerance_);

    Instance slower = instance;
    auto& resource = slower.resources[rng.Below(slower.resources.size())];
    resource.units_per_second = 1 + rng.Below(resource.units_per_second);
    EXPECT_GE(Bound(slower, prices), value - tolerance_);

    Instance busier = instance;
    busier.base_load[rng.Below(busier.base_load.size())] += 1000;
    EXPECT_GE(Bound(busier, prices), value - tolerance_);

    Instance fewer = instance;
    const size_t last = fewer.block_count() - 1;
    if (fewer.Accesses(last).empty()) return;
    fewer.access_phase.pop_back();
    --fewer.first_access.back();
    EXPECT_LE(Bound(fewer, prices), value + tolerance_);
  });
}

}  // namespace
}  // namespace kvtier
