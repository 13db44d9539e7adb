// The fast evaluation gives the naive one's value at any prices; its loads and occupancy are those
// of paths, and its slopes those of finite differences; neither depends on lanes.
#include "tiering/bound/evaluation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/support/bound/lanes_in_turn.h"
#include "tests/support/bound/random_instance.h"
#include "tests/support/bound/random_prices.h"
#include "tests/support/bound/synthetic.h"
#include "tests/support/test_seed.h"
#include "tiering/bound/naive_evaluation.h"
#include "tiering/bound/price_space.h"

namespace kvtier {
namespace {

using bound::Evaluation;
using bound::Evaluator;
using bound::Instance;
using bound::Prices;
using test_support::BoundModel;

constexpr int kInstances = 40;  // of each model
constexpr test_support::RandomSize kSize = {.blocks_max = 6, .phases_max = 40, .accesses_max = 3};

template <typename Visit>
void ForRandomInstances(uint64_t own_seed, const Visit& visit) {
  Rng rng(test_support::TestSeed(own_seed));
  std::vector<BoundModel> models(test_support::kBoundModels.begin(),
                                 test_support::kBoundModels.end());
  models.push_back(BoundModel::kFourTiers);
  for (const BoundModel model : models) {
    for (int i = 0; i < kInstances; ++i) {
      SCOPED_TRACE(std::string(test_support::NameOf(model)) + " " + std::to_string(i));
      const Instance instance = test_support::RandomInstance(model, kSize, rng);
      visit(instance, test_support::RandomPrices(instance, rng), rng);
      if (testing::Test::HasFailure()) return;
    }
  }
}

// What a move in a phase without access weighs, by its definition.
double MoveWeight(const Instance& instance, size_t block) {
  double accesses = 1, phases = 1;
  for (size_t other = 0; other < instance.block_count(); ++other) {
    if (&instance.TableOf(other) != &instance.TableOf(block)) continue;
    accesses += static_cast<double>(instance.Accesses(other).size());
    phases += instance.death[other] - instance.birth[other];
  }
  return std::min(1.0, accesses / phases);
}

// The smoothed value phase by phase, in a range of numbers that the weights of small instances fit.
double NaiveSoft(const Instance& instance, const Prices& prices, double temperature) {
  double value = 0;
  for (size_t i = 0; i < prices.share.size(); ++i) {
    value += prices.share[i] * static_cast<double>(instance.base_load[i]) /
             static_cast<double>(instance.resources[i % prices.resource_count].units_per_second);
  }
  for (size_t i = 0; i < prices.room.size(); ++i) {
    value -=
        prices.room[i] * static_cast<double>(instance.tiers[i % prices.tier_count].capacity_bytes);
  }
  for (size_t block = 0; block < instance.block_count(); ++block) {
    const auto& table = instance.TableOf(block);
    const auto& block_class = instance.ClassOf(block);
    const auto accesses = instance.Accesses(block);
    const double recompute =
        static_cast<double>(block_class.recompute_units) / static_cast<double>(block_class.bytes);
    const double move_weight = MoveWeight(instance, block);
    std::vector<long double> weights;
    for (size_t k = 0; k < table.state_count(); ++k) {
      weights.push_back(block_class.start_states >> k & 1);
    }
    for (uint32_t phase = instance.birth[block]; phase < instance.death[block]; ++phase) {
      const auto count = static_cast<size_t>(std::count(accesses.begin(), accesses.end(), phase));
      std::vector<long double> next(weights.size(), 0);
      for (size_t from = 0; from < weights.size(); ++from) {
        double room = 0;
        for (size_t j = 0; j < prices.tier_count; ++j) {
          if ((table.states()[from] >> j & 1) != 0) room += prices.Room(phase)[j];
        }
        for (size_t to = 0; to < weights.size(); ++to) {
          for (const auto& option : table.Options(count, static_cast<bound::StateIndex>(from),
                                                  static_cast<bound::StateIndex>(to))) {
            double cost = room;
            for (size_t r = 0; r < prices.resource_count; ++r) {
              const double units =
                  option.per_byte[r] +
                  (r == instance.compute_resource ? option.recomputes * recompute : 0.0);
              cost += units * prices.Share(phase)[r] /
                      static_cast<double>(instance.resources[r].units_per_second);
            }
            next[to] += weights[from] * std::exp(-static_cast<long double>(cost) / temperature) *
                        (count == 0 && from != to ? move_weight : 1);
          }
        }
      }
      weights = next;
    }
    long double sum = 0;
    for (const long double weight : weights) sum += weight;
    value -= temperature * static_cast<double>(block_class.bytes * std::log(sum));
  }
  return value;
}

double PathsValue(const Instance& instance, const Prices& prices, const Evaluation& evaluation) {
  double value = 0;
  for (size_t i = 0; i < prices.share.size(); ++i) {
    value += prices.share[i] * evaluation.load[i] /
             static_cast<double>(instance.resources[i % prices.resource_count].units_per_second);
  }
  for (size_t i = 0; i < prices.room.size(); ++i) {
    value += prices.room[i] *
             (evaluation.occupancy[i] -
              static_cast<double>(instance.tiers[i % prices.tier_count].capacity_bytes));
  }
  return value;
}

TEST(BoundEvaluationTest, FastIsNaive) {
  ForRandomInstances(1, [](const Instance& instance, const Prices& prices, Rng&) {
    InlineExecutor executor;
    Evaluator evaluator(instance, executor);
    const auto naive = static_cast<double>(bound::EvaluateNaively(instance, prices).bound_seconds);
    const double tolerance = 1e-13 * (std::abs(naive) + test_support::Magnitude(instance, prices));
    EXPECT_NEAR(evaluator.Hard(prices, nullptr), naive, tolerance);
    Evaluation evaluation;
    EXPECT_NEAR(evaluator.Hard(prices, &evaluation), naive, tolerance);
    EXPECT_NEAR(PathsValue(instance, prices, evaluation), naive, tolerance);
  });
}

TEST(BoundEvaluationTest, SmoothedIsNaiveToo) {
  ForRandomInstances(7, [](const Instance& instance, const Prices& prices, Rng&) {
    InlineExecutor executor;
    Evaluator evaluator(instance, executor);
    const double temperature = 0.5 * bound::PriceSpace(instance).unit();
    const double naive = NaiveSoft(instance, prices, temperature);
    if (!std::isfinite(naive)) return;  // a room price too high for these simple means
    EXPECT_NEAR(evaluator.Soft(prices, temperature, nullptr), naive,
                1e-12 * (std::abs(naive) + test_support::Magnitude(instance, prices)));
  });
}

// It is below by what many paths weigh, and above by what the moves of the cheapest do not.
TEST(BoundEvaluationTest, SmoothedComesNear) {
  ForRandomInstances(2, [](const Instance& instance, const Prices& prices, Rng&) {
    InlineExecutor executor;
    Evaluator evaluator(instance, executor);
    const double unit = bound::PriceSpace(instance).unit();
    const double hard = evaluator.Hard(prices, nullptr);
    const double tolerance = 1e-12 * (std::abs(hard) + test_support::Magnitude(instance, prices));
    double below = 0, above = 0;  // in temperatures
    for (size_t block = 0; block < instance.block_count(); ++block) {
      const auto& table = instance.TableOf(block);
      const auto bytes = static_cast<double>(instance.ClassOf(block).bytes);
      const double life = instance.death[block] - instance.birth[block];
      size_t options = 0;
      for (size_t accesses = 0; accesses <= table.accesses_max(); ++accesses) {
        for (bound::StateIndex from = 0; from < table.state_count(); ++from) {
          for (bound::StateIndex to = 0; to < table.state_count(); ++to)
            options += table.Options(accesses, from, to).size();
        }
      }
      below += bytes * (life + 1) * std::log(static_cast<double>(options + 1));
      above -= bytes * life * std::log(MoveWeight(instance, block));
    }
    for (const double temperature : {1.0, 0.1, 0.01}) {
      const double soft = evaluator.Soft(prices, temperature * unit, nullptr);
      EXPECT_LE(soft, hard + temperature * unit * above + tolerance);
      EXPECT_GE(soft, hard - temperature * unit * below - tolerance);
    }
  });
}

// The largest of phases' share slopes is that of a finite difference.
TEST(BoundEvaluationTest, SlopesAreFiniteDifferences) {
  ForRandomInstances(3, [](const Instance& instance, const Prices& prices, Rng& rng) {
    InlineExecutor executor;
    Evaluator evaluator(instance, executor);
    const double unit = bound::PriceSpace(instance).unit();
    const double temperature = 0.3 * unit;
    Evaluation slope, other;
    evaluator.Soft(prices, temperature, &slope);
    const auto difference = [&](const Prices& up, const Prices& down, double step) {
      const double upper = evaluator.Soft(up, temperature, nullptr);
      return (upper - evaluator.Soft(down, temperature, nullptr)) / step;
    };
    double bytes = 0;
    for (const auto& tier : instance.tiers) bytes += static_cast<double>(tier.capacity_bytes);
    for (const double load : slope.load) bytes = std::max(bytes, load);
    for (int tries = 0; tries < 3; ++tries) {
      const double step = 1e-4;
      const size_t share = rng.Below(prices.share.size());
      const auto rate =
          static_cast<double>(instance.resources[share % prices.resource_count].units_per_second);
      Prices up = prices, down = prices;
      up.share[share] += step * rate * unit;
      down.share[share] -= step * rate * unit;
      EXPECT_NEAR(difference(up, down, 2 * step * unit), slope.load[share], 1e-5 * bytes);
      const size_t room = rng.Below(prices.room.size());
      up = down = prices;
      up.room[room] += step * unit;
      down.room[room] -= step * unit;
      const auto capacity =
          static_cast<double>(instance.tiers[room % prices.tier_count].capacity_bytes);
      EXPECT_NEAR(difference(up, down, 2 * step * unit), slope.occupancy[room] - capacity,
                  1e-5 * bytes);
    }
  });
}

// In a model of one copy, all copies together are the living blocks, and each access loads a port.
TEST(BoundEvaluationTest, OccupancyIsLivingBlocks) {
  InlineExecutor executor;
  const Instance instance = test_support::Synthetic(
      {.blocks = 300, .steps = 50, .growing_share = 0.4, .classes = 3, .seed = 4});
  Rng rng(test_support::TestSeed(4));
  const Prices prices = test_support::RandomPrices(instance, rng);
  Evaluator evaluator(instance, executor);
  for (const bool smoothed : {false, true}) {
    Evaluation evaluation;
    if (smoothed) {
      evaluator.Soft(prices, 0.1 * bound::PriceSpace(instance).unit(), &evaluation);
    } else {
      evaluator.Hard(prices, &evaluation);
    }
    for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
      double living = 0;
      for (size_t b = 0; b < instance.block_count(); ++b) {
        if (instance.birth[b] <= phase) living += static_cast<double>(instance.ClassOf(b).bytes);
      }
      EXPECT_NEAR(evaluation.occupancy[phase * 2] + evaluation.occupancy[phase * 2 + 1], living,
                  smoothed ? 1e-9 * living : 0);
    }
  }
}

TEST(BoundEvaluationTest, LanesDoNotMatter) {
  for (const BoundModel model : test_support::kBoundModels) {
    Rng rng(test_support::TestSeed(5));
    const Instance instance = test_support::RandomInstance(
        model, {.blocks_max = 40, .phases_max = 100, .accesses_max = 2}, rng);
    const Prices prices = test_support::RandomPrices(instance, rng);
    const double temperature = 0.05 * bound::PriceSpace(instance).unit();
    InlineExecutor inline_executor;
    Evaluator first(instance, inline_executor);
    Evaluation hard, soft;
    first.Hard(prices, &hard);
    first.Soft(prices, temperature, &soft);
    for (const size_t lanes : {2, 5}) {
      test_support::LanesInTurn executor(lanes);
      Evaluator evaluator(instance, executor);
      Evaluation evaluation;
      evaluator.Hard(prices, &evaluation);
      EXPECT_EQ(evaluation.value, hard.value);
      EXPECT_EQ(evaluation.load, hard.load);
      EXPECT_EQ(evaluation.occupancy, hard.occupancy);
      evaluator.Soft(prices, temperature, &evaluation);
      EXPECT_EQ(evaluation.value, soft.value);
      EXPECT_EQ(evaluation.load, soft.load);
      EXPECT_EQ(evaluation.occupancy, soft.occupancy);
    }
  }
}

// Of many pieces of work, which a small instance has not.
TEST(BoundEvaluationTest, LanesDoNotMatterAtScale) {
  const Instance instance = test_support::Synthetic({.blocks = 5000, .steps = 200, .classes = 2});
  Rng rng(test_support::TestSeed(6));
  const Prices prices = test_support::RandomPrices(instance, rng);
  std::vector<Evaluation> results;
  for (const size_t lanes : {1, 2, 5}) {
    test_support::LanesInTurn executor(lanes);
    Evaluator evaluator(instance, executor);
    evaluator.Hard(prices, &results.emplace_back());
    evaluator.Soft(prices, 0.05 * bound::PriceSpace(instance).unit(), &results.emplace_back());
  }
  for (size_t i = 2; i < results.size(); ++i) {
    EXPECT_EQ(results[i].value, results[i % 2].value);
    EXPECT_EQ(results[i].load, results[i % 2].load);
    EXPECT_EQ(results[i].occupancy, results[i % 2].occupancy);
  }
}

}  // namespace
}  // namespace kvtier
