#include "bench/page_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace kvtier::bench {
namespace {

constexpr uint64_t kHugeBytes = 2u << 20;

// A number of kB after `name` in a file of such lines.
uint64_t FreeHugePages() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    absl::string_view rest = line;
    uint64_t pages = 0;
    if (absl::ConsumePrefix(&rest, "HugePages_Free:") && absl::SimpleAtoi(rest, &pages))
      return pages;
  }
  return 0;
}

}  // namespace

absl::StatusOr<PageMemory> PageMemory::Create(uint64_t bytes, uint64_t touched_bytes,
                                              PageKind kind) {
  PageMemory memory;
  memory.size_ = (bytes + 2 * kHugeBytes - 1) / kHugeBytes * kHugeBytes;
  const bool hugetlb = kind == PageKind::kHuge && FreeHugePages() > touched_bytes / kHugeBytes + 16;
  const int fd = ::memfd_create("kvtier-bench", MFD_CLOEXEC | (hugetlb ? MFD_HUGETLB : 0));
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(memory.size_)) != 0) {
    const std::string why = std::strerror(errno);
    if (fd >= 0) ::close(fd);
    return absl::UnavailableError(absl::StrCat("memfd of ", memory.size_, " bytes: ", why));
  }
  void* start =
      ::mmap(nullptr, memory.size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  ::close(fd);
  if (start == MAP_FAILED) {
    return absl::UnavailableError(
        absl::StrCat("mmap of ", memory.size_, " bytes: ", std::strerror(errno)));
  }
  memory.start_ = start;
  if (kind == PageKind::kSmall) {
    (void)::madvise(start, memory.size_, MADV_NOHUGEPAGE);
    memory.what_ = "4 KiB pages";
    return memory;
  }
  memory.page_bytes_ = static_cast<int64_t>(kHugeBytes);
  memory.what_ = "hugetlb pages of 2 MiB";
  if (hugetlb || memory.TakesHugePages("ShmemPmdMapped:")) {
    if (!hugetlb) memory.what_ = "transparent pages of 2 MiB of a memfd";
    return memory;
  }
  // Pages like those that a memfd would have, where the machine gives them to other memory only.
  ::munmap(start, memory.size_);
  memory.size_ += kHugeBytes;
  memory.start_ = ::mmap(nullptr, memory.size_, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory.start_ == MAP_FAILED) {
    memory.start_ = nullptr;
    return absl::UnavailableError(
        absl::StrCat("mmap of ", memory.size_, " bytes: ", std::strerror(errno)));
  }
  memory.what_ = "transparent pages of 2 MiB of anonymous memory (a memfd gets none here)";
  if (memory.TakesHugePages("AnonHugePages:")) return memory;
  return absl::UnavailableError("no free hugetlb pages, and no transparent ones");
}

bool PageMemory::TakesHugePages(const char* field) {
  if (::madvise(start_, size_, MADV_HUGEPAGE) != 0) return false;
  static_cast<volatile std::byte*>(bytes().data())[0] = std::byte{0};
  field_ = field;
  return HugeBytes() > 0;
}

absl::Span<std::byte> PageMemory::bytes() const {
  const auto start = reinterpret_cast<uintptr_t>(start_);
  const uintptr_t aligned = (start + kHugeBytes - 1) / kHugeBytes * kHugeBytes;
  return {reinterpret_cast<std::byte*>(aligned), size_ - (aligned - start)};
}

PageMemory::PageMemory(PageMemory&& other) noexcept
    : start_(std::exchange(other.start_, nullptr)),
      size_(other.size_),
      page_bytes_(other.page_bytes_),
      what_(std::move(other.what_)),
      field_(other.field_) {}

PageMemory::~PageMemory() {
  if (start_ != nullptr) ::munmap(start_, size_);
}

uint64_t PageMemory::HugeBytes() const {
  if (field_ == nullptr) return 0;
  std::ifstream file("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(file, line);) {
    unsigned long from = 0, to = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) {
      here = from == reinterpret_cast<unsigned long>(start_);
    }
    absl::string_view rest = line;
    uint64_t kilobytes = 0;
    if (here && absl::ConsumePrefix(&rest, field_)) {
      rest = absl::StripSuffix(absl::StripAsciiWhitespace(rest), " kB");
      if (absl::SimpleAtoi(rest, &kilobytes)) return kilobytes << 10;
    }
  }
  return 0;
}

}  // namespace kvtier::bench
