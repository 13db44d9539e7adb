#include "tiering/host/memfd_access.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace kvtier {
namespace {

constexpr int kSealsOfReaders = F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

}  // namespace

absl::Status MemoryError(const std::string& name, const char* call, int error) {
  const std::string message =
      absl::StrFormat("segment %s: %s: %s", name, call, std::strerror(error));
  const bool exhausted = error == ENOMEM || error == ENOSPC || error == EMFILE || error == ENFILE;
  return exhausted ? absl::ResourceExhaustedError(message) : absl::FailedPreconditionError(message);
}

absl::Status SealFromWriting(const std::string& name, int fd) {
  // F_SEAL_SEAL refuses even what is there already.
  if (SealedFromWriting(fd)) return absl::OkStatus();
  if (fcntl(fd, F_ADD_SEALS, kSealsOfReaders) == 0) return absl::OkStatus();
  return MemoryError(name, "F_ADD_SEALS", errno);
}

bool SealedFromWriting(int fd) {
  const int seals = fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_FUTURE_WRITE) != 0;
}

absl::Status FillHoles(const std::string& name, int fd, Bytes bytes) {
  // Passing over pages that are there takes milliseconds.
  if (!HasHoles(fd, bytes)) return absl::OkStatus();
  // What is there already stays as it is.
  if (fallocate(fd, 0, 0, bytes.count()) == 0) return absl::OkStatus();
  return MemoryError(name, "fallocate", errno);
}

bool HasHoles(int fd, Bytes bytes) {
  constexpr int64_t kBlockBytes = 512;  // of st_blocks, whatever the page size
  struct stat file {};
  return fstat(fd, &file) != 0 || file.st_blocks * kBlockBytes < bytes.count();
}

absl::StatusOr<OwnedFd> ReopenForReading(const std::string& name, int fd) {
  OwnedFd reader(open(absl::StrCat("/proc/self/fd/", fd).c_str(), O_RDONLY | O_CLOEXEC));
  if (!reader.valid()) return MemoryError(name, "open for reading", errno);
  return reader;
}

absl::StatusOr<OwnedFd> Duplicate(const std::string& name, int fd) {
  OwnedFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return MemoryError(name, "F_DUPFD_CLOEXEC", errno);
  return copy;
}

}  // namespace kvtier
