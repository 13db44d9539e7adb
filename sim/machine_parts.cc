#include "sim/machine_parts.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {
namespace {

absl::StatusOr<std::vector<size_t>> ChooseTiers(const Machine& machine,
                                                const std::vector<std::string>& names) {
  std::vector<size_t> chosen;
  for (const std::string& name : names) {
    const std::optional<size_t> tier = FindTier(machine, name);
    if (!tier) {
      return absl::InvalidArgumentError(absl::StrCat(
          machine.name, " has no tier ", name, "; it has ",
          absl::StrJoin(machine.tiers, ", ",
                        [](std::string* out, const MachineTier& one) { out->append(one.name); })));
    }
    if (std::find(chosen.begin(), chosen.end(), *tier) != chosen.end())
      return absl::InvalidArgumentError(absl::StrCat("tier ", name, " is named twice"));
    chosen.push_back(*tier);
  }
  std::sort(chosen.begin(), chosen.end());
  for (size_t i = 0; names.empty() && i < machine.tiers.size(); ++i) chosen.push_back(i);
  return chosen;
}

uint8_t AddResource(MachineParts& parts, std::string name, uint64_t units_per_second) {
  parts.resources.push_back({std::move(name), units_per_second});
  return static_cast<uint8_t>(parts.resources.size() - 1);
}

// A link's two directions, by its name: tiers behind one link share them.
using LinkResources = std::map<std::string, std::pair<uint8_t, uint8_t>>;

void AddTier(const Machine& machine, size_t index, uint64_t capacity_bytes, LinkResources& links,
             MachineParts& parts) {
  const MachineTier& tier = machine.tiers[index];
  bound::TierPorts ports{.on_gpu = index == 0};
  ports.memory = ports.on_gpu ? parts.hbm : AddResource(parts, tier.name, tier.bytes_per_second);
  if (tier.link) {
    const auto [found, is_new] = links.try_emplace(tier.link->name);
    if (is_new) {
      const std::string name = LinkName(machine, tier);
      found->second = {
          AddResource(parts, name + ".to_gpu", tier.link->to_gpu_bytes_per_second),
          AddResource(parts, name + ".from_gpu", tier.link->from_gpu_bytes_per_second)};
    }
    ports.link_in = found->second.first;
    ports.link_out = found->second.second;
  }
  parts.ports.push_back(ports);
  parts.tiers.push_back({tier.name, capacity_bytes});
}

std::string GibText(uint64_t bytes) {
  return absl::StrFormat("%.7g GiB", static_cast<double>(bytes) / (1u << 30));
}

}  // namespace

absl::StatusOr<MachineParts> MakeMachineParts(const Machine& machine, const ModelSpec& model,
                                              const std::vector<std::string>& tier_names) {
  MachineParts parts;
  KVTIER_ASSIGN_OR_RETURN(parts.machine_tier, ChooseTiers(machine, tier_names));
  const MachineTier& own = machine.tiers.front();
  const bool own_chosen = parts.machine_tier.front() == 0;
  if (model.weight_bytes > own.capacity_bytes ||
      (own_chosen && model.weight_bytes == own.capacity_bytes)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the weights of ", model.name, " are ", GibText(model.weight_bytes),
                     ", and tier ", own.name, " of ", machine.name, " has ",
                     GibText(own.capacity_bytes), ": set a larger one (tier.", own.name,
                     ".capacity=SIZE) or smaller weights (model.weight_bytes=SIZE)"));
  }
  parts.hbm = AddResource(parts, own.name, own.bytes_per_second);
  LinkResources links;
  for (const size_t index : parts.machine_tier) {
    AddTier(machine, index,
            machine.tiers[index].capacity_bytes - (index == 0 ? model.weight_bytes : 0), links,
            parts);
  }
  parts.compute = AddResource(parts, "compute", machine.flops_per_second);
  parts.inclusive = machine.inclusive && parts.tiers.size() > 1 &&
                    parts.machine_tier.back() + 1 == machine.tiers.size();
  return parts;
}

std::vector<bound::TierSet> StatesOf(const MachineParts& parts, bool nowhere) {
  std::vector<bound::TierSet> states;
  if (nowhere) states.push_back(0);
  const uint32_t last = 1u << (parts.tiers.size() - 1);
  for (uint32_t set = 1; set < 1u << parts.tiers.size(); ++set) {
    if (!parts.inclusive || (set & last) != 0) states.push_back(static_cast<bound::TierSet>(set));
  }
  return states;
}

}  // namespace kvtier::sim
