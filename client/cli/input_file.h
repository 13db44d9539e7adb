// A file that a command reads as a whole.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace kvtier::cli {

// INVALID_ARGUMENT: it has more than `bytes_max`; NOT_FOUND, PERMISSION_DENIED or DATA_LOSS with
// the path where it cannot be read.
absl::StatusOr<std::string> ReadInputFile(const std::string& path, uint64_t bytes_max);

}  // namespace kvtier::cli
