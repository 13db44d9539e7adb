// Times of any number of requests in little memory.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

namespace kvtier::replay {

// Buckets are 1/64 of their value wide, so what is read from it is at most that much too high.
class LatencyHistogram {
 public:
  void Add(uint64_t us) {
    ++buckets_[BucketOf(us)];
    ++count_;
    max_us_ = std::max(max_us_, us);
  }
  uint64_t max_us() const { return max_us_; }
  // The smallest value that a `share` (0 to 1) of all is not above; 0 of none.
  uint64_t Quantile(double share) const {
    const auto wanted = std::max<uint64_t>(
        1, static_cast<uint64_t>(std::ceil(share * static_cast<double>(count_))));
    uint64_t seen = 0;
    for (uint32_t i = 0; i < buckets_.size(); ++i) {
      seen += buckets_[i];
      if (seen >= wanted) return std::min(LastOf(i), max_us_);
    }
    return max_us_;
  }

 private:
  static constexpr uint32_t kSteps = 64;  // of each power of two; below it every number has its own
  static constexpr uint32_t kBits = 6;
  static uint32_t BucketOf(uint64_t us) {
    if (us < kSteps) return static_cast<uint32_t>(us);
    const auto shift = static_cast<uint32_t>(std::bit_width(us)) - kBits - 1;
    return (shift + 1) * kSteps + static_cast<uint32_t>((us >> shift) - kSteps);
  }
  static uint64_t LastOf(uint32_t bucket) {
    if (bucket < kSteps) return bucket;
    const uint32_t shift = bucket / kSteps - 1;
    return ((uint64_t{bucket % kSteps + kSteps} + 1) << shift) - 1;
  }

  std::array<uint64_t, (64 - kBits + 1) * kSteps> buckets_{};
  uint64_t count_ = 0;
  uint64_t max_us_ = 0;
};

}  // namespace kvtier::replay
