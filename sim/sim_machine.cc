#include "sim/sim_machine.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvtier::sim {

absl::StatusOr<SimMachine> SimMachine::Create(const Machine& machine, std::vector<size_t> tiers) {
  if (tiers.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(machine.name, ": no tier is to hold blocks; at least one is needed"));
  }
  for (size_t i = 0; i < tiers.size(); ++i) {
    if (tiers[i] < machine.tiers.size() && (i == 0 || tiers[i - 1] < tiers[i])) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(machine.name, ": tier number ", tiers[i], " of ", machine.tiers.size(),
                     " is to hold blocks; each may, once, in the machine's order"));
  }
  SimMachine sim;
  sim.inclusive_ = machine.inclusive && tiers.back() + 1 == machine.tiers.size();
  std::vector<TierPorts> all;
  std::map<std::string, std::pair<uint32_t, uint32_t>> links;
  for (const MachineTier& tier : machine.tiers) {
    TierPorts ports{.name = tier.name,
                    .kind = tier.kind,
                    .memory = sim.ports_.Add(tier.name, tier.bytes_per_second),
                    .latency_ns = static_cast<int64_t>(tier.latency_ns)};
    if (tier.link) {
      const MachineLink& link = *tier.link;
      auto [found, is_new] = links.try_emplace(link.name);
      if (is_new) {
        const std::string name = LinkName(machine, tier);
        found->second = {sim.ports_.Add(name + ".to_gpu", link.to_gpu_bytes_per_second),
                         sim.ports_.Add(name + ".from_gpu", link.from_gpu_bytes_per_second)};
      }
      ports.to_gpu = found->second.first;
      ports.from_gpu = found->second.second;
      ports.latency_ns += static_cast<int64_t>(link.latency_ns);
    }
    all.push_back(std::move(ports));
  }
  sim.own_memory_ = all[0].memory;
  sim.compute_ = sim.ports_.Add("compute", machine.flops_per_second);
  for (const size_t tier : tiers) sim.tiers_.push_back(all[tier]);
  return sim;
}

OperationCost SimMachine::Read(size_t tier, uint64_t bytes) const {
  const TierPorts& from = tiers_[tier];
  OperationCost cost{.loads = {{from.memory, bytes}}, .latency_ns = from.latency_ns};
  if (from.to_gpu) cost.loads.push_back({*from.to_gpu, bytes});
  return cost;
}

OperationCost SimMachine::Write(size_t tier, uint64_t bytes) const {
  const TierPorts& to = tiers_[tier];
  OperationCost cost{.loads = {{to.memory, bytes}}, .latency_ns = to.latency_ns};
  if (to.from_gpu) cost.loads.push_back({*to.from_gpu, bytes});
  return cost;
}

OperationCost SimMachine::Store(size_t tier, uint64_t bytes) const {
  OperationCost cost = Write(tier, bytes);
  if (inclusive_ && tier + 1 != tiers_.size()) cost.Add(Write(tiers_.size() - 1, bytes));
  return cost;
}

OperationCost SimMachine::Copy(size_t from, size_t to, uint64_t bytes) const {
  if (inclusive_ && to + 1 == tiers_.size()) return {};
  OperationCost cost = Read(from, bytes);
  cost.Add(Write(to, bytes));
  return cost;
}

OperationCost SimMachine::Compute(uint64_t flops) const {
  return {.loads = {{compute_, flops}}, .latency_ns = 0};
}

OperationCost SimMachine::OwnMemory(uint64_t bytes) const {
  return {.loads = {{own_memory_, bytes}}, .latency_ns = 0};
}

}  // namespace kvtier::sim
