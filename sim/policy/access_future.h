// Which block will be read when: what policies know that know the future.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace kvtier::sim {

inline constexpr uint32_t kNever = 0xffffffff;

// Blocks are numbered chunk * planes + plane. The simulation moves `now`; what is asked for is
// behind it. Memory: 4 bytes an access and 12 a block. Not thread-safe.
class AccessFuture {
 public:
  // Accesses of block b are phases[first[b] .. first[b + 1]), ascending.
  AccessFuture(std::vector<uint64_t> first, std::vector<uint32_t> phases)
      : first_(std::move(first)), phases_(std::move(phases)), cursor_(first_) {}

  uint32_t now() const { return now_; }
  // Never goes back.
  void set_now(uint32_t phase) { now_ = phase; }

  // The next phase behind now() that reads the block, or kNever.
  uint32_t Next(uint64_t block) {
    const absl::Span<const uint32_t> rest = Rest(block);
    return rest.empty() ? kNever : rest[0];
  }
  // All phases behind now() that read it.
  absl::Span<const uint32_t> Rest(uint64_t block) {
    uint64_t& at = cursor_[block];
    while (at < first_[block + 1] && phases_[at] <= now_) ++at;
    return absl::MakeConstSpan(phases_).subspan(at, first_[block + 1] - at);
  }
  size_t block_count() const { return first_.size() - 1; }

  // What a phase reads, for policies that ask by phase; appended to `blocks`. Not set: nothing.
  using ReadsOf = std::function<void(uint32_t phase, std::vector<uint64_t>& blocks)>;
  void set_reads(ReadsOf reads) { reads_ = std::move(reads); }
  void Reads(uint32_t phase, std::vector<uint64_t>& blocks) const {
    if (reads_) reads_(phase, blocks);
  }
  // A step, in which every plane is read once, has so many phases.
  uint32_t phases_per_step() const { return phases_per_step_; }
  void set_phases_per_step(uint32_t phases) { phases_per_step_ = phases; }

 private:
  std::vector<uint64_t> first_;
  std::vector<uint32_t> phases_;
  std::vector<uint64_t> cursor_;
  ReadsOf reads_;
  uint32_t phases_per_step_ = 1;
  uint32_t now_ = 0;
};

}  // namespace kvtier::sim
