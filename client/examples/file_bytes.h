#pragma once

// Whole files with a limit: prompts, configurations and weights.

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace kvtier::examples {

// The bytes of a regular file. NOT_FOUND if it cannot be opened, INVALID_ARGUMENT if it is not a
// regular file or is longer than `bytes_max`, DATA_LOSS if reading fails. Reads rather than maps: a
// mapping of a file that somebody truncates meanwhile kills the process.
absl::StatusOr<std::string> ReadFileBytes(const std::string& path, size_t bytes_max);

// The first `bytes_max` bytes of a regular file, or all of it if it is shorter. Other errors as
// above.
absl::StatusOr<std::string> ReadFileStart(const std::string& path, size_t bytes_max);

}  // namespace kvtier::examples
