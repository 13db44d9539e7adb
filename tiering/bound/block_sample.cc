#include "tiering/bound/block_sample.h"

#include <algorithm>

#include "tiering/base/check.h"
#include "tiering/base/rng.h"

namespace kvtier::bound {
namespace {

uint64_t Scaled(uint64_t units, double share) {
  return static_cast<uint64_t>(static_cast<double>(units) * share);
}

}  // namespace

BlockSample SampleBlocks(const Instance& instance, uint32_t stride, uint64_t seed) {
  KVTIER_CHECK(stride > 0);
  Rng rng(seed);
  BlockSample sample;
  Instance& part = sample.instance;
  part.tables = instance.tables;
  part.classes = instance.classes;
  part.compute_resource = instance.compute_resource;
  part.phase_count = instance.phase_count;
  part.first_access.push_back(0);
  double all_bytes = 0, taken_bytes = 0;
  for (size_t run = 0; run < instance.block_count(); run += stride) {
    const size_t chosen = run + rng.Below(stride);
    const size_t end = std::min<size_t>(run + stride, instance.block_count());
    for (size_t block = run; block < end; ++block) {
      const auto bytes = static_cast<double>(instance.ClassOf(block).bytes);
      all_bytes += bytes;
      if (block != chosen) continue;
      taken_bytes += bytes;
      part.block_class.push_back(instance.block_class[block]);
      part.birth.push_back(instance.birth[block]);
      part.death.push_back(instance.death[block]);
      const auto accesses = instance.Accesses(block);
      part.access_phase.insert(part.access_phase.end(), accesses.begin(), accesses.end());
      part.first_access.push_back(part.access_phase.size());
    }
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
