#include "proto/wire/block_copy.h"

#include <algorithm>
#include <cstring>

#include "proto/wire/block_copy_kernels.h"
#include "proto/wire/checksum.h"

namespace kvtier::wire {
namespace {

bool NonTemporal() {
  static const bool available = internal::NonTemporalAvailable();
  return available;
}

bool IsAligned(const std::byte* to) {
  return reinterpret_cast<uintptr_t>(to) % internal::kNonTemporalAlignment == 0;
}

char* Chars(std::byte* bytes) { return reinterpret_cast<char*>(bytes); }
const char* Chars(const std::byte* bytes) { return reinterpret_cast<const char*>(bytes); }

// One piece through a buffer of its own, with ordinary stores.
uint64_t CopyPieceCached(std::byte* to, const std::byte* from, size_t bytes) {
  alignas(64) std::byte piece[kChecksumPieceBytes];
  std::memcpy(piece, from, bytes);
  // A compiler may turn copies a -> b -> c into a -> b, a -> c, which would read the source twice.
  // It cannot where memory may have changed in between.
  __asm__ volatile("" : : "r"(piece) : "memory");
  std::memcpy(to, piece, bytes);
  return PieceChecksum(piece, bytes);
}

}  // namespace

void CopyBytes(std::byte* to, const std::byte* from, size_t bytes) {
  if (bytes < kNonTemporalBytesMin || !NonTemporal()) {
    std::memcpy(to, from, bytes);
    return;
  }
  const size_t misaligned = reinterpret_cast<uintptr_t>(to) % internal::kNonTemporalAlignment;
  const size_t head = misaligned == 0 ? 0 : internal::kNonTemporalAlignment - misaligned;
  const size_t body = (bytes - head) / internal::kNonTemporalUnit * internal::kNonTemporalUnit;
  if (head > 0) std::memcpy(to, from, head);
  internal::CopyNonTemporal(Chars(to + head), Chars(from + head), body);
  internal::NonTemporalFence();
  if (head + body < bytes) std::memcpy(to + head + body, from + head + body, bytes - head - body);
}

uint64_t CopyPieces(std::byte* to, const std::byte* from, size_t bytes, uint64_t first_piece,
                    uint64_t combined) {
  size_t offset = 0;
  uint64_t index = first_piece;
  if (NonTemporal() && IsAligned(to)) {
    for (; bytes - offset >= kChecksumPieceBytes; offset += kChecksumPieceBytes, ++index) {
      const bool more = bytes - offset >= 2 * kChecksumPieceBytes;
      const std::byte* next = from + offset + (more ? kChecksumPieceBytes : 0);
      combined = CombinePiece(
          combined, index,
          internal::CopyPieceNonTemporal(Chars(to + offset), Chars(from + offset), Chars(next)));
    }
  }
  while (offset < bytes) {
    const size_t piece_bytes = std::min(kChecksumPieceBytes, bytes - offset);
    combined =
        CombinePiece(combined, index++, CopyPieceCached(to + offset, from + offset, piece_bytes));
    offset += piece_bytes;
  }
  return combined;
}

void CopyFence() {
  if (NonTemporal()) internal::NonTemporalFence();
}

uint64_t CopyWithChecksum(std::byte* to, const std::byte* from, size_t bytes) {
  uint64_t combined = ChecksumSeed(bytes);
  if (bytes >= kNonTemporalBytesMin) {
    combined = CopyPieces(to, from, bytes, 0, combined);
    CopyFence();
    return combined;
  }
  for (size_t offset = 0; offset < bytes; offset += kChecksumPieceBytes) {
    combined = CombinePiece(
        combined, offset / kChecksumPieceBytes,
        CopyPieceCached(to + offset, from + offset, std::min(kChecksumPieceBytes, bytes - offset)));
  }
  return combined;
}

const char* BlockCopyKernelName() { return NonTemporal() ? "avx2" : "portable"; }

}  // namespace kvtier::wire
