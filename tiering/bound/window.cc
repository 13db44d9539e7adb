#include "tiering/bound/window.h"

#include <algorithm>

#include "tiering/base/check.h"

namespace kvtier::bound {

void AddFreeStarts(Instance& instance) {
  const size_t count = instance.classes.size();
  for (size_t i = 0; i < count; ++i) {
    BlockClass free = instance.classes[i];
    const size_t states = instance.tables[free.table].state_count();
    free.start_states = static_cast<StateSet>((1u << states) - 1);
    instance.classes.push_back(free);
  }
}

Instance Window(const Instance& instance, uint32_t first, uint32_t end) {
  KVTIER_CHECK(first < end && end <= instance.phase_count);
  Instance window;
  window.tiers = instance.tiers;
  window.resources = instance.resources;
  window.compute_resource = instance.compute_resource;
  window.tables = instance.tables;
  window.classes = instance.classes;
  AddFreeStarts(window);
  const auto classes = static_cast<uint32_t>(instance.classes.size());
  window.phase_count = end - first;
  const auto base =
      absl::MakeConstSpan(instance.base_load)
          .subspan(first * instance.resources.size(), (end - first) * instance.resources.size());
  window.base_load.assign(base.begin(), base.end());
  window.first_access.push_back(0);
  for (size_t block = 0; block < instance.block_count(); ++block) {
    const uint32_t birth = instance.birth[block], death = instance.death[block];
    if (birth >= end || death <= first) continue;
    window.block_class.push_back(instance.block_class[block] + (birth < first ? classes : 0));
    window.birth.push_back(std::max(birth, first) - first);
    window.death.push_back(std::min(death, end) - first);
    const auto accesses = instance.Accesses(block);
    const auto* const begin = std::lower_bound(accesses.begin(), accesses.end(), first);
    for (const auto* phase = begin; phase != accesses.end() && *phase < end; ++phase) {
      window.access_phase.push_back(*phase - first);
    }
    window.first_access.push_back(window.access_phase.size());
  }
  return window;
}

void CopyPrices(const Prices& window, uint32_t first, Prices& whole) {
  KVTIER_CHECK(first + window.phase_count <= whole.phase_count);
  std::copy(window.share.begin(), window.share.end(),
            whole.share.begin() + static_cast<ptrdiff_t>(first * whole.resource_count));
  std::copy(window.room.begin(), window.room.end(),
            whole.room.begin() + static_cast<ptrdiff_t>(first * whole.tier_count));
}

Prices PricesOf(const Prices& whole, uint32_t first, uint32_t end) {
  KVTIER_CHECK(first < end && end <= whole.phase_count);
  Prices window(end - first, whole.resource_count, whole.tier_count);
  std::copy_n(whole.share.begin() + static_cast<ptrdiff_t>(first * whole.resource_count),
              window.share.size(), window.share.begin());
  std::copy_n(whole.room.begin() + static_cast<ptrdiff_t>(first * whole.tier_count),
              window.room.size(), window.room.begin());
  return window;
}

}  // namespace kvtier::bound
