// The ceiling of the engine figure: reads that each need the one before.
#pragma once

#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "tiering/base/rng.h"

namespace kvtier::bench {

// A random cycle through cache lines of `bytes` bytes, so that each load misses the caches, and
// mostly the TLB, as far as such an amount of memory makes it. Not thread-safe.
class PointerChase {
 public:
  PointerChase(uint64_t bytes, uint64_t seed) : lines_(bytes / sizeof(Line) + 2) {
    // Sattolo's algorithm: one cycle through all lines.
    Rng rng(seed);
    for (size_t i = 0; i < lines_.size(); ++i) lines_[i].next = static_cast<uint32_t>(i);
    for (size_t i = lines_.size() - 1; i > 0; --i)
      std::swap(lines_[i].next, lines_[rng.Below(i)].next);
  }

  // Nanoseconds of one load, over `loads` of them.
  double MeasureNs(int loads) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < loads; ++i) at_ = lines_[at_].next;
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
    return time.count() / loads;
  }
  // Keeps the compiler from dropping the loads.
  uint32_t position() const { return at_; }

 private:
  struct alignas(64) Line {
    uint32_t next;
  };
  std::vector<Line> lines_;
  uint32_t at_ = 0;
};

}  // namespace kvtier::bench
