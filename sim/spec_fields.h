// The fields of machines and models by name: what their files say and what a user overrides.
//
//   compute, read, inclusive,
//   tier.NAME.{kind, capacity, bandwidth, latency, link},
//   link.NAME.{to_gpu, from_gpu, latency}, and link.NAME: both directions,
//   model.FIELD: a field of ModelSpec.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "sim/machine.h"
#include "sim/model_spec.h"

namespace kvtier::sim {

// A machine on its way: links stand by themselves until all fields are set.
class MachineFields {
 public:
  MachineFields() = default;
  explicit MachineFields(const Machine& machine);

  // Sets the field. With `create`, tiers and links that are not there yet are added, tiers behind
  // those that are. INVALID_ARGUMENT "PATH ...": no such field, tier or link, or not its value.
  absl::Status Set(absl::string_view path, absl::string_view value, bool create);
  // What can be set without `create`; and tiers' names, which ApplyOverrides takes.
  std::vector<std::string> Paths() const;
  // What was set, checked as by CheckMachine.
  absl::StatusOr<Machine> Build(absl::string_view name) const;

 private:
  struct Tier {
    MachineTier tier{};
    std::string link{};  // empty: none
  };

  absl::Status SetTier(absl::string_view path, absl::string_view name, absl::string_view field,
                       absl::string_view value, bool create);
  absl::Status SetLink(absl::string_view path, absl::string_view name, absl::string_view field,
                       absl::string_view value, bool create);

  Machine machine_;
  std::vector<Tier> tiers_;
  std::vector<MachineLink> links_;
};

// `field` is a member's name. INVALID_ARGUMENT as above.
absl::Status SetModelField(absl::string_view field, absl::string_view value, ModelSpec& model);

// Applies "PATH=VALUE" to each; "hbm=40GiB" and the like, with a tier's name alone, is its
// capacity. Both are checked again. INVALID_ARGUMENT names the override, and of a field that
// there is not the nearest that there are.
absl::Status ApplyOverrides(const std::vector<std::string>& overrides, Machine& machine,
                            ModelSpec& model);

}  // namespace kvtier::sim
