// Which lines of an index's rows are free.
#pragma once

#include <cstdint>
#include <vector>

namespace kvtier {

// Rows take runs of lines. What was a run of so many lines stays one: a freed run is used again for
// rows of the same length only, so that its first line always is a row's header. Not thread-safe;
// touches no line.
class LineAllocator {
 public:
  static constexpr uint32_t kNone = 0xffffffffu;

  explicit LineAllocator(uint64_t lines_max) : lines_max_(lines_max) {}

  // First line of a run of `lines` > 0; kNone when there is none.
  uint32_t Allocate(uint32_t lines) {
    if (lines < free_.size() && !free_[lines].empty()) {
      const uint32_t line = free_[lines].back();
      free_[lines].pop_back();
      return line;
    }
    if (lines > lines_max_ - end_) return kNone;
    const uint64_t line = end_;
    end_ += lines;
    return static_cast<uint32_t>(line);
  }
  void Free(uint32_t line, uint32_t lines) {
    if (lines >= free_.size()) free_.resize(lines + 1);
    free_[lines].push_back(line);
  }
  // Lines from here on were never used.
  uint64_t end() const { return end_; }

 private:
  uint64_t lines_max_;
  uint64_t end_ = 0;
  std::vector<std::vector<uint32_t>> free_;  // by length
};

}  // namespace kvtier
