#include "sim/machine.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace kvtier::sim {
namespace {

absl::Status Problem(const Machine& machine, absl::string_view field, uint64_t value,
                     absl::string_view needed) {
  return absl::InvalidArgumentError(
      absl::StrCat(machine.name, ": ", field, " is ", value, "; ", needed, " is needed"));
}

absl::Status CheckRate(const Machine& machine, absl::string_view field, uint64_t rate,
                       uint64_t max) {
  if (rate >= kRateMin && rate <= max) return absl::OkStatus();
  return Problem(machine, field, rate, absl::StrCat("a rate from ", kRateMin, " to ", max));
}

absl::Status CheckLink(const Machine& machine, const MachineLink& link) {
  const std::string name = absl::StrCat("link.", link.name);
  for (const auto& [field, rate] : {std::pair{".to_gpu", link.to_gpu_bytes_per_second},
                                    {".from_gpu", link.from_gpu_bytes_per_second}}) {
    absl::Status status = CheckRate(machine, absl::StrCat(name, field), rate, kByteRateMax);
    if (!status.ok()) return status;
  }
  if (link.latency_ns > kLatencyNsMax)
    return Problem(machine, name + ".latency", link.latency_ns,
                   absl::StrCat("at most ", kLatencyNsMax, " ns"));
  return absl::OkStatus();
}

absl::Status CheckTier(const Machine& machine, const MachineTier& tier, bool first) {
  const std::string name = absl::StrCat("tier.", tier.name);
  // Tiers and `compute` stand side by side in results.
  if (tier.name == "compute")
    return absl::InvalidArgumentError(absl::StrCat(machine.name, ": no tier can be named compute"));
  if (tier.capacity_bytes == 0 || tier.capacity_bytes > kCapacityBytesMax) {
    return Problem(machine, name + ".capacity", tier.capacity_bytes,
                   absl::StrCat("1 to ", kCapacityBytesMax, " bytes"));
  }
  absl::Status status =
      CheckRate(machine, name + ".bandwidth", tier.bytes_per_second, kByteRateMax);
  if (!status.ok()) return status;
  if (tier.latency_ns > kLatencyNsMax)
    return Problem(machine, name + ".latency", tier.latency_ns,
                   absl::StrCat("at most ", kLatencyNsMax, " ns"));
  if (first != (tier.kind == TierKind::kHbm) || first == tier.link.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(machine.name, ": ", name,
                     ": the first tier, and no other, is of kind hbm, and has no link"));
  }
  return tier.link ? CheckLink(machine, *tier.link) : absl::OkStatus();
}

}  // namespace

std::optional<size_t> FindTier(const Machine& machine, absl::string_view name) {
  for (size_t i = 0; i < machine.tiers.size(); ++i) {
    if (machine.tiers[i].name == name) return i;
  }
  return std::nullopt;
}

absl::Status CheckMachine(const Machine& machine) {
  if (machine.tiers.empty() || machine.tiers.size() > kMachineTiersMax) {
    return Problem(machine, "number of tiers", machine.tiers.size(),
                   absl::StrCat("1 to ", kMachineTiersMax));
  }
  absl::Status status = CheckRate(machine, "compute", machine.flops_per_second, kFlopRateMax);
  for (size_t i = 0; status.ok() && i < machine.tiers.size(); ++i) {
    status = CheckTier(machine, machine.tiers[i], i == 0);
    if (status.ok() && *FindTier(machine, machine.tiers[i].name) != i) {
      status = absl::InvalidArgumentError(
          absl::StrCat(machine.name, ": there are two tiers ", machine.tiers[i].name));
    }
  }
  if (status.ok() && machine.inclusive && machine.tiers.size() < 2) {
    status = absl::InvalidArgumentError(
        absl::StrCat(machine.name, ": inclusive is true, which needs a second tier"));
  }
  return status;
}

}  // namespace kvtier::sim
