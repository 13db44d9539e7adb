#include "sim/input_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {

absl::Status CannotRead(const std::string& path, int error) {
  const std::string message = absl::StrCat("cannot read ", path, ": ", std::strerror(error));
  if (error == ENOENT) return absl::NotFoundError(message);
  if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(message);
  return absl::DataLossError(message);
}

absl::StatusOr<InputFile> OpenInputFile(const std::string& path) {
  InputFile file(std::fopen(path.c_str(), "re"));
  if (file == nullptr) return CannotRead(path, errno);
  return file;
}

bool IsPipeOrDevice(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  return std::filesystem::is_other(status);
}

absl::StatusOr<std::string> ReadInputFile(const std::string& path, uint64_t bytes_max) {
  if (IsPipeOrDevice(path))
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is a pipe or a device; a file is needed"));
  KVTIER_ASSIGN_OR_RETURN(const InputFile file, OpenInputFile(path));
  std::string bytes;
  char buffer[1 << 16];
  while (const size_t got = std::fread(buffer, 1, sizeof(buffer), file.get())) {
    if (bytes.size() + got > bytes_max) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": has more than ", bytes_max, " bytes, which is the limit"));
    }
    bytes.append(buffer, got);
  }
  if (std::ferror(file.get()) != 0) return CannotRead(path, errno);
  return bytes;
}

}  // namespace kvtier::sim
