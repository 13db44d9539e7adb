// Which blocks are read in a phase: an instance's accesses the other way round.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "tiering/bound/instance.h"

namespace kvtier::bound {

// Blocks of a phase ascend; one that is read m times stands m times. Immutable.
class PhaseReaders {
 public:
  explicit PhaseReaders(const Instance& instance) : first_(size_t{instance.phase_count} + 1) {
    for (const uint32_t phase : instance.access_phase) ++first_[phase + 1];
    for (size_t phase = 0; phase < instance.phase_count; ++phase)
      first_[phase + 1] += first_[phase];
    blocks_.resize(instance.access_phase.size());
    std::vector<uint64_t> next(first_.begin(), first_.end() - 1);
    for (size_t block = 0; block < instance.block_count(); ++block) {
      for (const uint32_t phase : instance.Accesses(block)) {
        blocks_[next[phase]++] = static_cast<uint32_t>(block);
      }
    }
  }

  absl::Span<const uint32_t> Of(uint32_t phase) const {
    return absl::MakeConstSpan(blocks_).subspan(first_[phase], first_[phase + 1] - first_[phase]);
  }

 private:
  std::vector<uint64_t> first_;
  std::vector<uint32_t> blocks_;
};

}  // namespace kvtier::bound
