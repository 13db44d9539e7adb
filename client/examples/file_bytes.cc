#include "client/examples/file_bytes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

namespace kvtier::examples {
namespace {

absl::StatusOr<std::string> Read(const std::string& path, size_t bytes_max, bool whole) {
  // Non-blocking, so that opening a FIFO without a writer returns and is refused below.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::NotFoundError(absl::StrCat(path, ": ", std::strerror(errno)));
  const absl::Cleanup close_fd = [fd] { close(fd); };
  struct stat info = {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  const size_t file_bytes = static_cast<size_t>(info.st_size);
  if (whole && file_bytes > bytes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", file_bytes, " bytes; at most ", bytes_max));
  }
  std::string bytes(std::min(file_bytes, bytes_max), '\0');
  size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t got = read(fd, bytes.data() + filled, bytes.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return absl::DataLossError(absl::StrCat(path, ": byte ", filled, ": ", std::strerror(errno)));
    if (got == 0) break;  // cut short meanwhile: what is there is what is parsed
    filled += static_cast<size_t>(got);
  }
  bytes.resize(filled);
  return bytes;
}

}  // namespace

absl::StatusOr<std::string> ReadFileBytes(const std::string& path, size_t bytes_max) {
  return Read(path, bytes_max, /*whole=*/true);
}

absl::StatusOr<std::string> ReadFileStart(const std::string& path, size_t bytes_max) {
  return Read(path, bytes_max, /*whole=*/false);
}

}  // namespace kvtier::examples
