// Finds and reads the YAML files of machines and models: those that come with kvtier by their
// names, others by path. spec_fields.h says which fields there are; all of a machine's tiers and
// links stand under "tier" and "link", and "name" is what results call it: 1 to 64 printable ASCII
// characters.
//
// Errors: INVALID_ARGUMENT "FILE:LINE: FIELD ..." with what was found and what is needed, also for
// a field that there is not; NOT_FOUND names what comes with kvtier; PERMISSION_DENIED or DATA_LOSS
// with the path where a file cannot be read. No content makes it throw or crash.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "sim/machine.h"
#include "sim/model_spec.h"

namespace kvtier::sim {

// `where` is a name that comes with kvtier, or else a path (of a file in the working directory, if
// it has no slash).
absl::StatusOr<Machine> ReadMachine(const std::string& where);
absl::StatusOr<ModelSpec> ReadModel(const std::string& where);

// `file` is for errors.
absl::StatusOr<Machine> ParseMachine(absl::string_view yaml, absl::string_view file);
absl::StatusOr<ModelSpec> ParseModel(absl::string_view yaml, absl::string_view file);

std::vector<std::string> MachineNames();
std::vector<std::string> ModelNames();

inline constexpr size_t kSpecBytesMax = 64 << 10;

}  // namespace kvtier::sim
