// Files that are read: how they are opened, read as a whole, and what is said where that fails.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvtier::sim {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using InputFile = std::unique_ptr<std::FILE, CloseFile>;

// NOT_FOUND, PERMISSION_DENIED or DATA_LOSS, by `error`, an errno; names the path.
absl::Status CannotRead(const std::string& path, int error);

// Errors: as CannotRead.
absl::StatusOr<InputFile> OpenInputFile(const std::string& path);

// Whether there is something else than a file or a directory: its bytes come once only, or without
// end.
bool IsPipeOrDevice(const std::string& path);

// All of it. INVALID_ARGUMENT: it has more than `bytes_max`, or is a pipe or a device; else as
// CannotRead.
absl::StatusOr<std::string> ReadInputFile(const std::string& path, uint64_t bytes_max);

}  // namespace kvtier::sim
