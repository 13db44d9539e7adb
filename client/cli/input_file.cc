#include "client/cli/input_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"

namespace kvtier::cli {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

absl::Status CannotRead(const std::string& path, int error) {
  const std::string message = absl::StrCat("cannot read ", path, ": ", std::strerror(error));
  if (error == ENOENT) return absl::NotFoundError(message);
  if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(message);
  return absl::DataLossError(message);
}

}  // namespace

absl::StatusOr<std::string> ReadInputFile(const std::string& path, uint64_t bytes_max) {
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "re"));
  if (file == nullptr) return CannotRead(path, errno);
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

}  // namespace kvtier::cli
