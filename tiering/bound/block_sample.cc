#include "tiering/bound/block_sample.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "tiering/base/check.h"
#include "tiering/base/rng.h"

namespace kvtier::bound {
namespace {

uint64_t Scaled(uint64_t units, double share) {
  return static_cast<uint64_t>(static_cast<double>(units) * share);
}

std::vector<uint32_t> Choose(const Instance& instance, uint32_t stride, uint64_t seed) {
  std::vector<uint32_t> order(instance.block_count());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return instance.Accesses(a).size() > instance.Accesses(b).size();
  });
  Rng rng(seed);
  std::vector<uint32_t> chosen;
  for (size_t run = 0; run < order.size(); run += stride) {
    const size_t length = std::min<size_t>(stride, order.size() - run);
    if (length < stride && !chosen.empty() && rng.Below(stride) >= length) break;
    chosen.push_back(order[run + rng.Below(length)]);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace

BlockSample SampleBlocks(const Instance& instance, uint32_t stride, uint64_t seed) {
  KVTIER_CHECK(stride > 0);
  BlockSample sample;
  Instance& part = sample.instance;
  part.tables = instance.tables;
  part.classes = instance.classes;
  part.compute_resource = instance.compute_resource;
  part.phase_count = instance.phase_count;
  part.first_access.push_back(0);
  double all_bytes = 0, taken_bytes = 0;
  for (size_t block = 0; block < instance.block_count(); ++block) {
    all_bytes += static_cast<double>(instance.ClassOf(block).bytes);
  }
  for (const uint32_t block : Choose(instance, stride, seed)) {
    taken_bytes += static_cast<double>(instance.ClassOf(block).bytes);
    part.block_class.push_back(instance.block_class[block]);
    part.birth.push_back(instance.birth[block]);
    part.death.push_back(instance.death[block]);
    const auto accesses = instance.Accesses(block);
    part.access_phase.insert(part.access_phase.end(), accesses.begin(), accesses.end());
    part.first_access.push_back(part.access_phase.size());
  }
  sample.share = all_bytes > 0 ? taken_bytes / all_bytes : 1;
  for (Tier tier : instance.tiers) {
    tier.capacity_bytes = Scaled(tier.capacity_bytes, sample.share);
    part.tiers.push_back(tier);
  }
  for (Resource resource : instance.resources) {
    resource.units_per_second =
        std::max<uint64_t>(1, Scaled(resource.units_per_second, sample.share));
    part.resources.push_back(resource);
  }
  for (const uint64_t load : instance.base_load)
    part.base_load.push_back(Scaled(load, sample.share));
  return sample;
}

Prices LiftFromSample(Prices prices, double share) {
  for (double& room : prices.room) room *= share;
  return prices;
}

}  // namespace kvtier::bound
