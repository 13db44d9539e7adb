// The bound at given prices changes with the problem as the problem's best time must.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/support/bound/random_instance.h"
#include "tests/support/bound/random_prices.h"
#include "tests/support/bound/synthetic.h"
#include "tests/support/test_seed.h"
#include "tiering/bound/evaluation.h"

namespace kvtier {
namespace {

using bound::Evaluation;
using bound::Instance;
using bound::Prices;
using test_support::BoundModel;
using test_support::SyntheticModel;

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

// Whatever else can be done, what could be done before still can: also with a transition that was
// forbidden, which is how a tier or a state comes in.
TEST_F(BoundInvarianceTest, AnotherWayTakesNoMore) {
  int lower = 0;
  ForRandom(36, [&](const Instance& instance, const Prices& prices, double value, Rng& rng) {
    Instance freer = instance;
    bound::OptionTable& table = freer.tables[rng.Below(freer.tables.size())];
    bound::Option option;
    for (size_t r = 0; r < freer.resources.size(); ++r)
      option.per_byte[r] = static_cast<uint16_t>(rng.Below(2));
    table.Add(rng.Below(table.accesses_max() + 1),
              static_cast<bound::StateIndex>(rng.Below(table.state_count())),
              static_cast<bound::StateIndex>(rng.Below(table.state_count())), option);
    const double with = Bound(freer, prices);
    EXPECT_LE(with, value + tolerance_);
    lower += with < value - tolerance_ ? 1 : 0;
  });
  EXPECT_GT(lower, 0);
}

// The same blocks and reads under several rules: each rule that allows more takes no longer.
class BoundRulesTest : public testing::Test {
 protected:
  static Instance Problem(SyntheticModel model) {
    return test_support::Synthetic({.model = model,
                                    .blocks = 120,
                                    .steps = 20,
                                    .layers = 2,
                                    .floor_share = 0.3,
                                    .growing_share = 0.3,
                                    .seed = test_support::TestSeed(37)});
  }
  void ExpectNoMore(double freer, double stricter, double tolerance) {
    EXPECT_LE(freer, stricter + tolerance);
    lower_ += freer < stricter - tolerance ? 1 : 0;
  }
  // Of all so far: else the rules would be no different.
  int lower() const { return lower_; }
  static double Tolerance(const Instance& instance, const Prices& prices) {
    double size = std::abs(Bound(instance, prices));
    for (size_t k = 0; k < prices.room.size(); ++k) {
      size += prices.room[k] *
              static_cast<double>(instance.tiers[k % prices.tier_count].capacity_bytes);
    }
    return 1e-12 * size;
  }

 private:
  int lower_ = 0;
};

// Where the host's copy stays, leaving the GPU's memory is free, and either copy may be read.
TEST_F(BoundRulesTest, KeepingTheHostsCopyTakesNoMore) {
  const Instance one = Problem(SyntheticModel::kExclusive);
  const Instance both = Problem(SyntheticModel::kInclusive);
  Rng rng(test_support::TestSeed(38));
  for (int i = 0; i < 50; ++i) {
    Prices prices = test_support::RandomPrices(one, rng);
    // The host has room for all, which has no price then.
    for (uint32_t phase = 0; phase < one.phase_count; ++phase) prices.Room(phase)[1] = 0;
    ExpectNoMore(Bound(both, prices), Bound(one, prices), Tolerance(one, prices));
  }
  EXPECT_GT(lower(), 0);
}

TEST_F(BoundRulesTest, APeerTakesNoMore) {
  const Instance two = Problem(SyntheticModel::kInclusive);
  const Instance three = Problem(SyntheticModel::kThreeTiers);
  Rng rng(test_support::TestSeed(39));
  for (int i = 0; i < 50; ++i) {
    const Prices prices = test_support::RandomPrices(three, rng);
    Prices without(two.phase_count, two.resources.size(), two.tiers.size());
    for (uint32_t phase = 0; phase < two.phase_count; ++phase) {
      // Tiers are the GPU's memory, the peer's and the host's; resources the GPU's, the host's, the
      // peer's and the processor.
      const auto share = prices.Share(phase);
      std::copy_n(share.begin(), 2, without.Share(phase).begin());
      without.Share(phase)[2] = share[3];
      without.Room(phase)[0] = prices.Room(phase)[0];
      without.Room(phase)[1] = prices.Room(phase)[2];
    }
    ExpectNoMore(Bound(three, prices), Bound(two, without), Tolerance(three, prices));
  }
  EXPECT_GT(lower(), 0);
}

// At prices of a stream, which tell a stall from the reads behind it in nothing, it is the same.
TEST_F(BoundRulesTest, StreamingTakesNoMoreThanCopyingFirst) {
  const Instance stream = Problem(SyntheticModel::kStream);
  const Instance strict = Problem(SyntheticModel::kStrict);
  ASSERT_EQ(strict.phase_count, 2 * stream.phase_count);
  Rng rng(test_support::TestSeed(40));
  for (int i = 0; i < 50; ++i) {
    const Prices prices = test_support::RandomPrices(stream, rng);
    Prices halves(strict.phase_count, strict.resources.size(), strict.tiers.size());
    for (uint32_t phase = 0; phase < strict.phase_count; ++phase) {
      std::copy_n(prices.Share(phase / 2).begin(), halves.resource_count,
                  halves.Share(phase).begin());
      if (phase % 2 == 0)
        std::copy_n(prices.Room(phase / 2).begin(), halves.tier_count, halves.Room(phase).begin());
    }
    ExpectNoMore(Bound(stream, prices), Bound(strict, halves), Tolerance(stream, prices));
  }
}

}  // namespace
}  // namespace kvtier
