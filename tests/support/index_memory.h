// Memory for a tenant's shared index in a test: zeroed, aligned to a page, and taken only as it is
// used.
#pragma once

#include <sys/mman.h>

#include <cstddef>

#include "absl/types/span.h"
#include "tiering/base/bytes.h"
#include "tiering/base/check.h"

namespace kvtier::test_support {

class IndexMemory {
 public:
  explicit IndexMemory(Bytes bytes)
      : size_(static_cast<size_t>(bytes.count())),
        start_(::mmap(nullptr, size_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    KVTIER_CHECK(start_ != MAP_FAILED);
  }
  ~IndexMemory() { ::munmap(start_, size_); }
  IndexMemory(const IndexMemory&) = delete;
  IndexMemory& operator=(const IndexMemory&) = delete;

  absl::Span<std::byte> bytes() const { return {static_cast<std::byte*>(start_), size_}; }

 private:
  size_t size_;
  void* start_;
};

}  // namespace kvtier::test_support
