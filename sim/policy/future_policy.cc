#include "sim/policy/future_policy.h"

#include <algorithm>

namespace kvtier::sim {

void MinPolicy::Used(BlockId block) {
  if (pool_count() > 1 && future()->Next(NumberOf(block)) != kNever) Want(block);
}

void MinPolicy::Decide() {
  std::stable_sort(wanted().begin(), wanted().end(), [&](const Wanted& a, const Wanted& b) {
    return BlockOrder(a.block) < BlockOrder(b.block);
  });
}

void FrequencyPolicy::Used(BlockId block) {
  if (pool_count() > 1 && !future()->Rest(NumberOf(block)).empty()) Want(block);
}

void FrequencyPolicy::Decide() {
  std::stable_sort(wanted().begin(), wanted().end(), [&](const Wanted& a, const Wanted& b) {
    return BlockOrder(a.block) < BlockOrder(b.block);
  });
}

}  // namespace kvtier::sim
