// The YAML files of sim/machines and sim/models, in the program: the build writes the definitions.
#pragma once

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kvtier::sim {

struct BuiltInSpec {
  absl::string_view name;
  absl::string_view yaml;
};

absl::Span<const BuiltInSpec> BuiltInMachines();
absl::Span<const BuiltInSpec> BuiltInModels();

}  // namespace kvtier::sim
