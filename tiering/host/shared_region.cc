#include "tiering/host/shared_region.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/host/memfd_access.h"

namespace kvtier {

absl::StatusOr<std::unique_ptr<SharedRegion>> SharedRegion::Create(const std::string& name,
                                                                   Bytes bytes, Writers writers) {
  KVTIER_CHECK(bytes > Bytes(0));
  OwnedFd fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return MemoryError(name, "memfd_create", errno);
  if (ftruncate(fd.get(), bytes.count()) != 0) return MemoryError(name, "ftruncate", errno);
  const auto size = static_cast<size_t>(bytes.count());
  void* address =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd.get(), 0);
  if (address == MAP_FAILED) return MemoryError(name, "mmap", errno);
  const int raw = fd.get();
  // From here on the destructor cleans up.
  std::unique_ptr<SharedRegion> region(new SharedRegion(
      name, std::move(fd), absl::MakeSpan(static_cast<std::byte*>(address), size), writers));
  if (madvise(address, size, MADV_DONTFORK) != 0) return MemoryError(name, "MADV_DONTFORK", errno);
  // The size first: once writing is sealed no further seal can be added.
  if (fcntl(raw, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
    return MemoryError(name, "F_ADD_SEALS", errno);
  if (writers == Writers::kOwner) {
    KVTIER_RETURN_IF_ERROR(SealFromWriting(name, raw));
  } else if (fcntl(raw, F_ADD_SEALS, F_SEAL_SEAL) != 0) {
    return MemoryError(name, "F_ADD_SEALS", errno);
  }
  return region;
}

SharedRegion::~SharedRegion() { KVTIER_CHECK(munmap(memory_.data(), memory_.size()) == 0); }

absl::StatusOr<OwnedFd> SharedRegion::Fd() const {
  return writers_ == Writers::kOwner ? ReopenForReading(name_, fd_.get())
                                     : Duplicate(name_, fd_.get());
}

}  // namespace kvtier
