#include "client/mapping.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvtier {

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

absl::StatusOr<Mapping> Mapping::Map(int fd, uint64_t bytes, Access access, bool populate) {
  struct stat file {};
  if (::fstat(fd, &file) != 0) {
    return absl::InternalError(
        absl::StrCat("cannot tell how large shared memory is: ", std::strerror(errno)));
  }
  if (bytes == 0 || static_cast<uint64_t>(file.st_size) < bytes) {
    return absl::OutOfRangeError(
        absl::StrCat("shared memory has ", file.st_size, " bytes instead of ", bytes));
  }
  const bool write = access == Access::kWrite;
  void* const data =
      ::mmap(nullptr, bytes, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot map ", bytes, " bytes of shared memory: ", std::strerror(errno)));
  }
  Mapping mapping;
  mapping.data_ = static_cast<std::byte*>(data);
  mapping.bytes_ = bytes;
  // A child would hold memory that the daemon believes to be gone with the parent.
  if (::madvise(data, bytes, MADV_DONTFORK) != 0) {
    return absl::InternalError(
        absl::StrCat("cannot keep shared memory from children: ", std::strerror(errno)));
  }
  // Where the kernel has no such advice (before 5.14) pages come one by one.
  if (populate) (void)::madvise(data, bytes, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
  return mapping;
}

absl::StatusOr<Mapping> Mapping::Anonymous(uint64_t bytes) {
  void* const data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot map ", bytes, " bytes: ", std::strerror(errno)));
  }
  Mapping mapping;
  mapping.data_ = static_cast<std::byte*>(data);
  mapping.bytes_ = bytes;
  return mapping;
}

}  // namespace kvtier
