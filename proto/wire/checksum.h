// The block checksum: XXH3-64 of each 4 KiB piece (the last may be shorter), combined so that
// pieces can be hashed in parallel and in any order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace kvtier::wire {

inline constexpr size_t kChecksumPieceBytes = 4096;

// Hash of one piece (at most kChecksumPieceBytes).
uint64_t PieceChecksum(const std::byte* piece, size_t bytes);

// Adds the hash of piece number `piece_index` to a running combination that starts at
// ChecksumSeed(bytes). Commutative: pieces may be added in any order. Swapped pieces change the
// result because the index is mixed into each term.
uint64_t CombinePiece(uint64_t combined, uint64_t piece_index, uint64_t piece_checksum);

// Start value for a block of `bytes` bytes: the length is part of the checksum.
uint64_t ChecksumSeed(uint64_t bytes);

// The checksum of a whole block. Thread-safe, like all here.
uint64_t BlockChecksum(absl::Span<const std::byte> block);

}  // namespace kvtier::wire
