// Log of a tenant's moves in shared memory, so that a reader who holds a block table brings it up
// to date at the cost of what moved.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "proto/wire/residency_word.h"

namespace kvtier::wire {

// One move: the best copy of a block is at another place now, or at none.
struct Relocation {
  uint64_t row = 0;  // PackRow
  uint32_t plane = 0;
  ResidencyWord word;  // zero: no copy is left
};

struct alignas(32) RelocationEntry {
  // Number of the entry + 1 while it is whole; 0 while it is written. Release; readers acquire, and
  // read it again after the fields.
  std::atomic<uint64_t> sequence;
  // Relaxed: `sequence` says whether they are of one entry.
  std::atomic<uint64_t> row;
  std::atomic<uint64_t> plane;
  std::atomic<uint64_t> word;
};
static_assert(sizeof(RelocationEntry) == 32 && offsetof(RelocationEntry, row) == 8 &&
              offsetof(RelocationEntry, plane) == 16 && offsetof(RelocationEntry, word) == 24);

// The daemon's end; one thread at a time. `entries` is a power of two.
class RelocationWriter {
 public:
  RelocationWriter(RelocationEntry* ring, uint64_t entries, std::atomic<uint64_t>* end)
      : ring_(ring), mask_(entries - 1), end_(end) {}

  // After the new word is published in the row and before retire_epoch is raised.
  void Append(const Relocation& relocation) {
    const uint64_t number = end_->load(std::memory_order_relaxed);
    RelocationEntry& entry = ring_[number & mask_];
    entry.sequence.store(0, std::memory_order_relaxed);
    // A reader that sees a field of the new entry sees that the old one is gone.
    std::atomic_thread_fence(std::memory_order_release);
    entry.row.store(relocation.row, std::memory_order_relaxed);
    entry.plane.store(relocation.plane, std::memory_order_relaxed);
    entry.word.store(relocation.word.bits(), std::memory_order_relaxed);
    entry.sequence.store(number + 1, std::memory_order_release);
    end_->store(number + 1, std::memory_order_release);
  }

 private:
  RelocationEntry* ring_;
  uint64_t mask_;
  std::atomic<uint64_t>* end_;
};

// A reader's end. Not thread-safe; one for each block table.
class RelocationReader {
 public:
  // Starts at the end of the log: what is resolved from now on needs nothing older. Inside a
  // section.
  RelocationReader(const RelocationEntry* ring, uint64_t entries, const std::atomic<uint64_t>* end)
      : ring_(ring), entries_(entries), end_(end), next_(end->load(std::memory_order_acquire)) {}

  // Calls `apply(relocation)` for each move since the last call, in order. Inside a section: what
  // moves later is protected by it. False when moves were overwritten before they were read; what
  // was applied then is not enough and everything has to be resolved again (the reader is at the
  // end of the log already).
  template <typename Apply>
  bool Read(Apply apply) {
    const uint64_t end = end_->load(std::memory_order_acquire);
    if (end - next_ > entries_) return Overflow(end);
    for (; next_ < end; ++next_) {
      const RelocationEntry& entry = ring_[next_ & (entries_ - 1)];
      if (entry.sequence.load(std::memory_order_acquire) != next_ + 1) return Overflow(end);
      Relocation relocation;
      relocation.row = entry.row.load(std::memory_order_relaxed);
      relocation.plane = static_cast<uint32_t>(entry.plane.load(std::memory_order_relaxed));
      relocation.word = ResidencyWord(entry.word.load(std::memory_order_relaxed));
      std::atomic_thread_fence(std::memory_order_acquire);
      if (entry.sequence.load(std::memory_order_relaxed) != next_ + 1) return Overflow(end);
      apply(relocation);
    }
    return true;
  }

 private:
  bool Overflow(uint64_t end) {
    next_ = end;
    return false;
  }

  const RelocationEntry* ring_;
  uint64_t entries_;
  const std::atomic<uint64_t>* end_;
  uint64_t next_;
};

}  // namespace kvtier::wire
