// The block checksum of bytes that arrive in parts.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "proto/wire/checksum.h"

namespace kvtier {

// Feed a block's bytes in order, in any split; value() then equals wire::BlockChecksum of the
// whole. Parts that are multiples of 4 KiB are hashed where they lie. Not thread-safe.
class RunningChecksum {
 public:
  explicit RunningChecksum(uint64_t block_bytes) : combined_(wire::ChecksumSeed(block_bytes)) {}

  void Add(const std::byte* data, size_t bytes) {
    while (bytes > 0) {
      size_t taken;
      if (held_ == 0 && bytes >= wire::kChecksumPieceBytes) {
        taken = wire::kChecksumPieceBytes;
        AddPiece(data, taken);
      } else {
        taken = std::min(bytes, wire::kChecksumPieceBytes - held_);
        std::memcpy(piece_.data() + held_, data, taken);
        held_ += taken;
        if (held_ == wire::kChecksumPieceBytes) {
          AddPiece(piece_.data(), held_);
          held_ = 0;
        }
      }
      data += taken;
      bytes -= taken;
    }
  }

  // Call once, after the last byte.
  uint64_t Finish() {
    if (held_ > 0) AddPiece(piece_.data(), held_);
    held_ = 0;
    return combined_;
  }

 private:
  void AddPiece(const std::byte* piece, size_t bytes) {
    combined_ = wire::CombinePiece(combined_, piece_index_++, wire::PieceChecksum(piece, bytes));
  }

  uint64_t combined_;
  uint64_t piece_index_ = 0;
  size_t held_ = 0;
  std::array<std::byte, wire::kChecksumPieceBytes> piece_;
};

}  // namespace kvtier
