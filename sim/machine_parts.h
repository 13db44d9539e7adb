// A machine as the bound's tiers and resources: memories' ports, links' directions, the processor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/machine.h"
#include "sim/model_spec.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/standard_tables.h"

namespace kvtier::sim {

struct MachineParts {
  std::vector<size_t> machine_tier;  // by tier of the bound: which of the machine's it is
  std::vector<bound::Tier> tiers;    // the GPU's own memory without the model's weights
  std::vector<bound::TierPorts> ports;
  std::vector<bound::Resource> resources;
  uint8_t hbm = 0;      // resource: the port of the GPU's own memory, a tier or not
  uint8_t compute = 0;  // resource

  // The last of `tiers` holds a copy of all that is stored anywhere.
  bool inclusive = false;
};

// `tier_names`: those that may hold cache, of the machine's; empty: all of them. They keep the
// machine's order. INVALID_ARGUMENT: an unknown or doubled name, or weights that the GPU's own
// memory has no room for.
absl::StatusOr<MachineParts> MakeMachineParts(const Machine& machine, const ModelSpec& model,
                                              const std::vector<std::string>& tier_names);

// The sets of tiers that may hold a block between phases, in rising order; with `nowhere` the empty
// set as the first, where a block that is not stored can be had by computing it.
std::vector<bound::TierSet> StatesOf(const MachineParts& parts, bool nowhere);

}  // namespace kvtier::sim
