// Memory of a memfd in pages of a given size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace kvtier::bench {

enum class PageKind : uint8_t { kSmall, kHuge };

// Zeroed, aligned to 2 MiB, taken as it is touched. Movable; unmapped at its end.
class PageMemory {
 public:
  // kHuge: hugetlb pages if so many are free that `touched_bytes` fit, else transparent ones.
  // Which, `what` tells. UNAVAILABLE: the machine gives neither.
  static absl::StatusOr<PageMemory> Create(uint64_t bytes, uint64_t touched_bytes, PageKind kind);
  PageMemory(PageMemory&& other) noexcept;
  PageMemory& operator=(PageMemory&&) = delete;
  ~PageMemory();

  // At least as many as asked for.
  absl::Span<std::byte> bytes() const;
  int64_t page_bytes() const { return page_bytes_; }
  const std::string& what() const { return what_; }
  // Bytes of it that huge pages map by now; transparent ones come as they are touched.
  uint64_t HugeBytes() const;

 private:
  PageMemory() = default;
  // Asks for transparent huge pages and touches the first; `field` of smaps counts them.
  bool TakesHugePages(const char* field);

  void* start_ = nullptr;
  size_t size_ = 0;
  int64_t page_bytes_ = 4096;
  std::string what_;
  const char* field_ = nullptr;  // of /proc/self/smaps, with transparent pages
};

}  // namespace kvtier::bench
