#include "tiering/host/host_segment.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <numaif.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tiering/base/check.h"
#include "tiering/host/memfd_access.h"

namespace kvtier {
namespace {

// Beyond the kernel's own limit (CONFIG_NODES_SHIFT is at most 10).
constexpr int kNodesMax = 1024;
constexpr int kBitsPerWord = 8 * sizeof(unsigned long);

// Zero or errno.
int BindRange(void* address, size_t bytes, int mode, int node) {
  if (node < 0 || node >= kNodesMax) return EINVAL;
  std::array<unsigned long, kNodesMax / kBitsPerWord> mask{};
  mask[static_cast<size_t>(node / kBitsPerWord)] = 1ul << (node % kBitsPerWord);
  // The kernel reads one bit less than it is told.
  return mbind(address, bytes, mode, mask.data(), kNodesMax + 1, 0) == 0 ? 0 : errno;
}

}  // namespace

const char* NodeBindingName(NodeBinding binding) {
  switch (binding) {
    case NodeBinding::kNone:
      return "none";
    case NodeBinding::kPreferred:
      return "preferred";
    case NodeBinding::kBound:
      return "bound";
  }
  return "unknown";
}

NodeBinding ProbeNodeBinding(int node) {
  constexpr size_t kPageBytes = 4096;
  void* page =
      mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return NodeBinding::kNone;
  NodeBinding binding = NodeBinding::kNone;
  if (BindRange(page, kPageBytes, MPOL_BIND, node) == 0) {
    binding = NodeBinding::kBound;
  } else if (BindRange(page, kPageBytes, MPOL_PREFERRED, node) == 0) {
    binding = NodeBinding::kPreferred;
  }
  munmap(page, kPageBytes);
  return binding;
}

HostSegment::HostSegment(int fd, std::byte* address, Bytes bytes, std::string name)
    : fd_(fd), address_(address), bytes_(bytes), name_(std::move(name)) {}

absl::StatusOr<std::unique_ptr<HostSegment>> HostSegment::Create(const Options& options) {
  const auto bytes = static_cast<size_t>(options.bytes.count());
  unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (options.huge_pages) flags |= MFD_HUGETLB | MFD_HUGE_2MB;
  const int fd = memfd_create(options.name.c_str(), flags);
  if (fd < 0) return MemoryError(options.name, "memfd_create", errno);
  const auto fail = [&](const char* call, int error) {
    close(fd);
    return MemoryError(options.name, call, error);
  };
  if (ftruncate(fd, options.bytes.count()) != 0) return fail("ftruncate", errno);
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) return fail("F_ADD_SEALS", errno);
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return fail("mmap", errno);
  // From here on the destructor cleans up.
  std::unique_ptr<HostSegment> segment(
      new HostSegment(fd, static_cast<std::byte*>(address), options.bytes, options.name));
  if (madvise(address, bytes, MADV_DONTFORK) != 0)
    return MemoryError(options.name, "MADV_DONTFORK", errno);
  if (options.binding != NodeBinding::kNone) {
    const int mode = options.binding == NodeBinding::kBound ? MPOL_BIND : MPOL_PREFERRED;
    const int error = BindRange(address, bytes, mode, options.node);
    if (error != 0) return MemoryError(options.name, "mbind", error);
  }
  return segment;
}

HostSegment::~HostSegment() {
  KVTIER_CHECK(munmap(address_, static_cast<size_t>(bytes_.count())) == 0);
  close(fd_);
}

absl::Status HostSegment::Populate(Bytes offset, Bytes bytes) {
  KVTIER_CHECK(offset >= Bytes(0) && bytes >= Bytes(0) && offset + bytes <= bytes_);
  // Unlike a plain touch, this reports missing memory instead of raising SIGBUS.
  if (madvise(address_ + offset.count(), static_cast<size_t>(bytes.count()), MADV_POPULATE_WRITE) ==
      0) {
    return absl::OkStatus();
  }
  // EFAULT is what it says when huge pages ran out, EINVAL what a kernel before 5.14 says.
  if (errno != EINVAL)
    return MemoryError(name_, "MADV_POPULATE_WRITE", errno == EFAULT ? ENOMEM : errno);
  // The pages at least; mapping them is left to the first touch.
  if (fallocate(fd_, 0, offset.count(), bytes.count()) == 0) return absl::OkStatus();
  return MemoryError(name_, "fallocate", errno);
}

}  // namespace kvtier
