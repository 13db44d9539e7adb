#include "proto/wire/checksum.h"

#include <algorithm>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace kvtier::wire {
namespace {

// The finaliser of SplitMix64: a bijection that spreads every input bit over the word.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

}  // namespace

uint64_t PieceChecksum(const std::byte* piece, size_t bytes) { return XXH3_64bits(piece, bytes); }

uint64_t CombinePiece(uint64_t combined, uint64_t piece_index, uint64_t piece_checksum) {
  return combined + Mix(piece_checksum ^ Mix((piece_index + 1) * 0x9e3779b97f4a7c15ull));
}

uint64_t ChecksumSeed(uint64_t bytes) { return Mix(bytes ^ 0x6b767469657231ull); }

uint64_t BlockChecksum(absl::Span<const std::byte> block) {
  uint64_t combined = ChecksumSeed(block.size());
  for (size_t offset = 0, index = 0; offset < block.size(); ++index) {
    const size_t bytes = std::min(kChecksumPieceBytes, block.size() - offset);
    combined = CombinePiece(combined, index, PieceChecksum(block.data() + offset, bytes));
    offset += bytes;
  }
  return combined;
}

}  // namespace kvtier::wire
