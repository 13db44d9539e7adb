#include "tiering/host/memfd_access.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tiering/base/status_macros.h"

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

absl::Status FillHoles(const std::string& name, int fd, Bytes offset, Bytes bytes) {
  // What is there already stays as it is.
  if (fallocate(fd, 0, offset.count(), bytes.count()) == 0) return absl::OkStatus();
  return MemoryError(name, "fallocate", errno);
}

bool HasHoles(int fd, Bytes bytes) {
  constexpr int64_t kBlockBytes = 512;  // of st_blocks, whatever the page size
  struct stat file {};
  return fstat(fd, &file) != 0 || file.st_blocks * kBlockBytes < bytes.count();
}

absl::Status CheckSealsHold(bool huge_pages) {
  const std::string name = huge_pages ? "of huge pages" : "of small pages";
  const size_t bytes = huge_pages ? size_t{2} << 20 : size_t{4} << 10;
  unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (huge_pages) flags |= MFD_HUGETLB | MFD_HUGE_2MB;
  const OwnedFd memory(memfd_create("kvtier-probe", flags));
  if (!memory.valid()) return MemoryError(name, "memfd_create", errno);
  if (ftruncate(memory.get(), static_cast<off_t>(bytes)) != 0)
    return MemoryError(name, "ftruncate", errno);
  KVTIER_RETURN_IF_ERROR(SealFromWriting(name, memory.get()));
  constexpr int kMap = MAP_SHARED | MAP_NORESERVE;
  const auto broken = [&](const char* way) {
    return absl::FailedPreconditionError(
        absl::StrFormat("memory %s that is sealed from writing %s", name, way));
  };
  void* const writable = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kMap, memory.get(), 0);
  if (writable != MAP_FAILED) {
    munmap(writable, bytes);
    return broken("can be mapped for it");
  }
  void* const readable = mmap(nullptr, bytes, PROT_READ, kMap, memory.get(), 0);
  if (readable == MAP_FAILED) return MemoryError(name, "mmap", errno);
  const bool made_writable = mprotect(readable, bytes, PROT_READ | PROT_WRITE) == 0;
  munmap(readable, bytes);
  if (made_writable) return broken("can be made writable");
  if (fallocate(memory.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                static_cast<off_t>(bytes)) == 0) {
    return broken("can have holes punched");
  }
  return absl::OkStatus();
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
