// Finds blocks in shared memory and decides which copies may be read.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "client/tenant_memory.h"
#include "kvtier/client.h"
#include "proto/wire/index_reader.h"

namespace kvtier {

// A block that is looked for: a plane of a row, and how many bytes it has.
struct WantedBlock {
  uint64_t row = 0;  // 0: not in the index
  uint32_t plane = 0;
  uint64_t bytes = 0;
};

// Where a block was found: its address, and the word that says so.
struct FoundBlock {
  BlockView view;
  wire::ResidencyWord word;
  // Not the second copy, whose end no relocation tells.
  bool best = true;
};

// Used inside a section of the memory, by one thread.
class BlockFinder {
 public:
  // Tells the daemon of a copy that does not have its checksum. It looks for itself.
  using Complain = absl::FunctionRef<void(uint64_t row, uint32_t plane, wire::ResidencyWord word)>;
  // Whether the bytes of a copy are those of the checksum.
  using Accept = absl::FunctionRef<bool(const std::byte* data, uint64_t checksum)>;

  BlockFinder(TenantMemory* memory, Verify verify, Complain complain)
      : memory_(memory), verify_(verify), complain_(complain) {}

  // Calls `take(i, found)` for each of `count` blocks, in order; `wanted(i)` says which. In groups,
  // so that cache misses overlap.
  template <typename Wanted, typename Take>
  void FindAll(size_t count, Wanted wanted, Take take);

  // Goes through the copies of one block, the best first, until `accept` has one of them; those
  // that it refuses are complained about. Maps what was not.
  FoundBlock Find(const WantedBlock& wanted, Accept accept);
  // Verifies, where that has to be done and was not.
  FoundBlock FindVerified(const WantedBlock& wanted);

 private:
  // Enough at once to cover the latency of memory, few enough for the line-fill buffers.
  static constexpr size_t kGroup = 16;

  TenantMemory* const memory_;
  const Verify verify_;
  const Complain complain_;
};

template <typename Wanted, typename Take>
void BlockFinder::FindAll(size_t count, Wanted wanted, Take take) {
  const wire::IndexReader& index = memory_->index();
  const VerifiedCopies& verified = memory_->verified();
  std::array<WantedBlock, kGroup> blocks;
  std::array<wire::ResidencyWord, kGroup> words;
  std::array<uint64_t, kGroup> hashes{};
  for (size_t first = 0; first < count; first += kGroup) {
    const size_t group = std::min(kGroup, count - first);
    for (size_t i = 0; i < group; ++i) {
      blocks[i] = wanted(first + i);
      index.Prefetch(blocks[i].row, blocks[i].plane);
    }
    for (size_t i = 0; i < group; ++i) {
      words[i] = blocks[i].row == 0
                     ? wire::ResidencyWord()
                     : wire::IndexReader::Resolve(index.At(blocks[i].row), blocks[i].plane);
      if (verify_ != Verify::kFirstRead) continue;
      hashes[i] = VerifiedCopies::HashOf(blocks[i].row, blocks[i].plane, words[i]);
      verified.Prefetch(hashes[i]);
    }
    for (size_t i = 0; i < group; ++i) {
      const bool trusted =
          words[i].valid() && (verify_ == Verify::kOff ||
                               (verify_ == Verify::kFirstRead && verified.Contains(hashes[i])));
      const MappedSegment* const segment = trusted ? memory_->segments().Find(words[i]) : nullptr;
      const std::byte* const data =
          segment != nullptr ? segment->Address(words[i], blocks[i].bytes) : nullptr;
      if (data == nullptr) {
        take(first + i, FindVerified(blocks[i]));
        continue;
      }
      take(first + i,
           FoundBlock{{data, blocks[i].bytes, segment->pool, absl::StatusCode::kOk}, words[i]});
    }
  }
}

}  // namespace kvtier
