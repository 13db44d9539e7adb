// Log of a tenant's moves in shared memory, so that a reader who holds a block table brings it up
// to date at the cost of what moved.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proto/wire/residency_word.h"
#include "proto/wire/section_protocol.h"

namespace kvtier::wire {

// One move: the best copy of a block is at another place now, or at none.
struct Relocation {
  uint64_t row = 0;  // PackRow
  uint32_t plane = 0;
  ResidencyWord word;  // zero: no copy is left
};

template <typename Word>
struct alignas(4 * sizeof(Word)) RelocationEntryOf {
  // Number of the entry + 1 while it is whole; 0 while it is written. Release; readers acquire, and
  // read it again after the fields.
  Word sequence;
  // Relaxed: `sequence` says whether they are of one entry.
  Word row;
  Word plane;
  Word word;
};
using RelocationEntry = RelocationEntryOf<HardwareMemory::Word>;
static_assert(sizeof(RelocationEntry) == 32 && alignof(RelocationEntry) == 32 &&
              offsetof(RelocationEntry, row) == 8 && offsetof(RelocationEntry, plane) == 16 &&
              offsetof(RelocationEntry, word) == 24);

// The daemon's end; one thread at a time. `entries` is a power of two. Templates over the memory
// like section_protocol.h.
template <typename Memory>
class BasicRelocationWriter {
 public:
  using Entry = RelocationEntryOf<typename Memory::Word>;
  BasicRelocationWriter(Entry* ring, uint64_t entries, typename Memory::Word* end)
      : ring_(ring), mask_(entries - 1), end_(end) {}

  // After PublishWord of the new word and before the old one's RetiredQueue::Retire.
  void Append(const Relocation& relocation) {
    Memory::Point(ProtocolPoint::kEngineAppendLog);
    const uint64_t number = Memory::LoadRelaxed(*end_);
    Entry& entry = ring_[number & mask_];
    if constexpr (Memory::kLogTakesEntryBack) Memory::StoreRelaxed(entry.sequence, 0);
    // A reader that sees a field of the new entry sees that the old one is gone.
    Memory::FenceRelease();
    Memory::StoreRelaxed(entry.row, relocation.row);
    Memory::StoreRelaxed(entry.plane, relocation.plane);
    Memory::StoreRelaxed(entry.word, relocation.word.bits());
    Memory::StoreRelease(entry.sequence, number + 1);
    Memory::StoreRelease(*end_, number + 1);
  }

 private:
  Entry* ring_;
  uint64_t mask_;
  typename Memory::Word* end_;
};
using RelocationWriter = BasicRelocationWriter<HardwareMemory>;

// A reader's end. Not thread-safe; one for each block table.
template <typename Memory>
class BasicRelocationReader {
 public:
  using Entry = RelocationEntryOf<typename Memory::Word>;
  // Starts at the end of the log: what is resolved from now on needs nothing older. Inside a
  // section.
  BasicRelocationReader(const Entry* ring, uint64_t entries, const typename Memory::Word* end)
      : ring_(ring), entries_(entries), end_(end), next_(Memory::LoadAcquire(*end)) {}

  // Calls `apply(relocation)` for each move since the last call, in order. Inside a section: what
  // moves later is protected by it. False when moves were overwritten before they were read; what
  // was applied then is not enough and everything has to be resolved again (the reader is at the
  // end of the log already).
  template <typename Apply>
  bool Read(Apply apply) {
    Memory::Point(ProtocolPoint::kReaderResolve);
    const uint64_t end = Memory::LoadAcquire(*end_);
    if (end - next_ > entries_) return Overflow(end);
    for (; next_ < end; ++next_) {
      const Entry& entry = ring_[next_ & (entries_ - 1)];
      if (Memory::LoadAcquire(entry.sequence) != next_ + 1) return Overflow(end);
      Relocation relocation;
      relocation.row = Memory::LoadRelaxed(entry.row);
      relocation.plane = static_cast<uint32_t>(Memory::LoadRelaxed(entry.plane));
      relocation.word = ResidencyWord(Memory::LoadRelaxed(entry.word));
      Memory::FenceAcquire();
      if constexpr (Memory::kLogLooksAgain) {
        if (Memory::LoadRelaxed(entry.sequence) != next_ + 1) return Overflow(end);
      }
      apply(relocation);
    }
    return true;
  }
  // The entry that is read next.
  uint64_t next() const { return next_; }

 private:
  bool Overflow(uint64_t end) {
    next_ = end;
    return false;
  }

  const Entry* ring_;
  uint64_t entries_;
  const typename Memory::Word* end_;
  uint64_t next_;
};
using RelocationReader = BasicRelocationReader<HardwareMemory>;

}  // namespace kvtier::wire
