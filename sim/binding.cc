#include "sim/binding.h"

#include "tiering/bound/evaluation.h"

namespace kvtier::sim {

Binding FindBinding(const bound::Instance& instance, const bound::Prices& prices,
                    Executor& executor) {
  const size_t resources = instance.resources.size();
  const size_t tiers = instance.tiers.size();
  Binding binding{std::vector<double>(resources), std::vector<double>(tiers)};
  bound::Evaluation evaluation;
  const double value = bound::Evaluator(instance, executor).Hard(prices, &evaluation);
  if (!(value > 0)) return binding;
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
    for (size_t r = 0; r < resources; ++r) {
      binding.resource[r] += prices.Share(phase)[r] * evaluation.load[phase * resources + r] /
                             static_cast<double>(instance.resources[r].units_per_second);
    }
    for (size_t j = 0; j < tiers; ++j) {
      binding.room[j] +=
          prices.Room(phase)[j] * static_cast<double>(instance.tiers[j].capacity_bytes);
    }
  }
  for (double& part : binding.resource) part /= value;
  for (double& part : binding.room) part /= value;
  return binding;
}

}  // namespace kvtier::sim
