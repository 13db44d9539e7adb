#include "tiering/bound/evaluation.h"

#include <limits>
#include <memory>

#include "tiering/base/check.h"
#include "tiering/bound/hard_sweep.h"
#include "tiering/bound/soft_sweep.h"

namespace kvtier::bound {

Evaluator::Evaluator(const Instance& instance, Executor& executor)
    : instance_(instance),
      executor_(executor),
      groups_(CostGroups(instance)),
      hard_(std::make_unique<HardScratch>()),
      soft_(std::make_unique<SoftScratch>()) {}

Evaluator::~Evaluator() = default;

double Evaluator::BaseValue(const Prices& prices, Evaluation* evaluation) const {
  KVTIER_CHECK(prices.phase_count == instance_.phase_count);
  KVTIER_CHECK(prices.resource_count == instance_.resources.size());
  KVTIER_CHECK(prices.tier_count == instance_.tiers.size());
  const size_t resources = instance_.resources.size(), tiers = instance_.tiers.size();
  double value = 0;
  for (size_t i = 0; i < prices.share.size(); ++i) {
    value += prices.share[i] * static_cast<double>(instance_.base_load[i]) /
             static_cast<double>(instance_.resources[i % resources].units_per_second);
  }
  for (size_t i = 0; i < prices.room.size(); ++i) {
    value -= prices.room[i] * static_cast<double>(instance_.tiers[i % tiers].capacity_bytes);
  }
  if (evaluation != nullptr) {
    evaluation->load.assign(instance_.base_load.begin(), instance_.base_load.end());
    evaluation->occupancy.assign(prices.room.size(), 0);
  }
  return value;
}

// A sum that lacks blocks says nothing: smoothed, it may be above what all would come to.
double Evaluator::Finished(double value, Evaluation* evaluation) const {
  if (stopped()) value = -std::numeric_limits<double>::infinity();
  if (evaluation != nullptr) evaluation->value = value;
  return value;
}

double Evaluator::Hard(const Prices& prices, Evaluation* evaluation) {
  double value = BaseValue(prices, evaluation);
  const std::vector<double> unit_prices = UnitPrices(instance_, prices);
  for (const CostGroup& group : groups_) {
    if (stopped()) break;
    value += HardSweep(instance_, group, prices, unit_prices, executor_, *hard_, evaluation);
  }
  return Finished(value, evaluation);
}

double Evaluator::Soft(const Prices& prices, double temperature, Evaluation* evaluation) {
  KVTIER_CHECK(temperature > 0);
  double value = BaseValue(prices, evaluation);
  const std::vector<double> unit_prices = UnitPrices(instance_, prices);
  for (const CostGroup& group : groups_) {
    if (stopped()) break;
    value += SoftSweep(instance_, group, prices, unit_prices, temperature, executor_, *soft_,
                       evaluation);
  }
  return Finished(value, evaluation);
}

}  // namespace kvtier::bound
