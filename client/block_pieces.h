// Copies between a block and the pieces of a caller's memory that make it up, hashed on the way.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "client/block_buffers.h"
#include "kvtier/types.h"
#include "proto/wire/block_copy.h"
#include "proto/wire/checksum.h"

namespace kvtier {

// Both take every byte of their source once, and copy runs of whole checksum pieces directly;
// pieces that a caller's buffers divide go through a buffer of one piece. The pieces have exactly
// `bytes` bytes. Thread-safe.
namespace internal {

// Cuts a block into runs: `direct(offset, address, bytes)` for whole checksum pieces (or the
// block's end) that lie in one buffer, `divided(offset, parts, bytes)` for one whose bytes do not.
template <typename Piece, typename Byte, typename Direct, typename Divided>
void ForEachRun(const std::vector<Piece>& pieces, uint64_t bytes, Direct direct, Divided divided) {
  struct Part {
    Byte* data;
    size_t bytes;
  };
  std::vector<Part> parts;  // of a piece that is divided
  size_t held = 0;
  uint64_t offset = 0;
  BufferCursor<Piece> cursor(pieces);
  cursor.Next(bytes, [&](Byte* data, size_t size) {
    while (size > 0) {
      const uint64_t left = bytes - offset;
      if (held == 0 && (size >= wire::kChecksumPieceBytes || size == left)) {
        const size_t run =
            size == left ? size : size / wire::kChecksumPieceBytes * wire::kChecksumPieceBytes;
        direct(offset, data, run);
        offset += run;
        data += run;
        size -= run;
        continue;
      }
      const size_t piece = std::min<uint64_t>(wire::kChecksumPieceBytes, left);
      const size_t part = std::min(size, piece - held);
      parts.push_back({data, part});
      held += part;
      data += part;
      size -= part;
      if (held < piece) continue;
      divided(offset, parts, piece);
      offset += piece;
      parts.clear();
      held = 0;
    }
  });
}

}  // namespace internal

// Writes the block at `to`, and returns its checksum.
inline uint64_t GatherBlock(std::byte* to, const std::vector<ConstBuffer>& pieces, uint64_t bytes) {
  uint64_t combined = wire::ChecksumSeed(bytes);
  internal::ForEachRun<ConstBuffer, const std::byte>(
      pieces, bytes,
      [&](uint64_t offset, const std::byte* from, size_t run) {
        combined =
            wire::CopyPieces(to + offset, from, run, offset / wire::kChecksumPieceBytes, combined);
      },
      [&](uint64_t offset, const auto& parts, size_t piece) {
        std::array<std::byte, wire::kChecksumPieceBytes> joined;
        size_t at = 0;
        for (const auto& part : parts) {
          std::memcpy(joined.data() + at, part.data, part.bytes);
          at += part.bytes;
        }
        combined = wire::CopyPieces(to + offset, joined.data(), piece,
                                    offset / wire::kChecksumPieceBytes, combined);
      });
  wire::CopyFence();
  return combined;
}

// Writes the block at `from` into the pieces, and returns the checksum of what was written.
inline uint64_t ScatterBlock(const std::vector<MutableBuffer>& pieces, const std::byte* from,
                             uint64_t bytes) {
  uint64_t combined = wire::ChecksumSeed(bytes);
  internal::ForEachRun<MutableBuffer, std::byte>(
      pieces, bytes,
      [&](uint64_t offset, std::byte* to, size_t run) {
        combined =
            wire::CopyPieces(to, from + offset, run, offset / wire::kChecksumPieceBytes, combined);
      },
      [&](uint64_t offset, const auto& parts, size_t piece) {
        std::array<std::byte, wire::kChecksumPieceBytes> joined;
        combined = wire::CopyPieces(joined.data(), from + offset, piece,
                                    offset / wire::kChecksumPieceBytes, combined);
        wire::CopyFence();
        size_t at = 0;
        for (const auto& part : parts) {
          std::memcpy(part.data, joined.data() + at, part.bytes);
          at += part.bytes;
        }
      });
  wire::CopyFence();
  return combined;
}

// The same without looking at the bytes.
inline void ScatterUnverified(const std::vector<MutableBuffer>& pieces, const std::byte* from,
                              uint64_t bytes) {
  BufferCursor<MutableBuffer> cursor(pieces);
  cursor.Next(bytes, [&](std::byte* to, size_t size) {
    wire::CopyBytes(to, from, size);
    from += size;
  });
}

}  // namespace kvtier
