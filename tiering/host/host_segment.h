// One segment of host memory: a sealed memfd mapped for reading and writing.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiering/base/bytes.h"

namespace kvtier {

// How pages are placed on a NUMA node.
enum class NodeBinding : uint8_t {
  kNone,       // wherever the kernel likes
  kPreferred,  // on the node while it has room: binding was refused (a cpuset, say)
  kBound,      // on the node only
};

const char* NodeBindingName(NodeBinding binding);

// The strongest binding that this process may give memory on `node`.
NodeBinding ProbeNodeBinding(int node);

// The memfd is close-on-exec, can neither shrink nor grow (sealed), and may take more seals:
// whoever shares it adds those. The mapping is not inherited by fork. Destroying it
// unmaps and closes; the memory is given back once no other process maps it either.
class HostSegment {
 public:
  struct Options {
    std::string name = {};    // shown in /proc/<pid>/maps
    Bytes bytes{};            // a multiple of the page size
    bool huge_pages = false;  // 2 MiB pages, which must have been reserved on the machine
    NodeBinding binding = NodeBinding::kNone;
    int node = -1;  // where binding is not kNone
  };

  // RESOURCE_EXHAUSTED: no descriptors, address space or huge pages left. FAILED_PRECONDITION: the
  // kernel refused for another reason, which is named. No page is allocated yet.
  static absl::StatusOr<std::unique_ptr<HostSegment>> Create(const Options& options);
  ~HostSegment();
  HostSegment(const HostSegment&) = delete;
  HostSegment& operator=(const HostSegment&) = delete;

  // Allocates and maps the pages of a range without changing their contents, so that nobody waits
  // for them later. May run while others use the segment, and on several ranges at once.
  // RESOURCE_EXHAUSTED when the memory is not there.
  absl::Status Populate(Bytes offset, Bytes bytes);

  std::byte* address() const { return address_; }
  Bytes bytes() const { return bytes_; }
  int fd() const { return fd_; }

 private:
  HostSegment(int fd, std::byte* address, Bytes bytes, std::string name);

  const int fd_;
  std::byte* const address_;
  const Bytes bytes_;
  const std::string name_;
};

}  // namespace kvtier
