// Checks of the caller's buffers, and walking through them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kvtier/types.h"

namespace kvtier {

// INVALID_ARGUMENT unless `pieces` make up exactly the bytes of plane `plane`. Before anything is
// sent, so that a buffer of the wrong size is never read or written.
template <typename Piece>
absl::Status CheckBuffers(const ModelGeometry& geometry, uint32_t chunk, uint32_t plane,
                          const std::vector<Piece>& pieces) {
  if (plane >= geometry.planes.size()) {
    return absl::InvalidArgumentError(absl::StrCat("chunk ", chunk, " plane ", plane, ": model ",
                                                   geometry.name, " has ", geometry.planes.size(),
                                                   " planes"));
  }
  const uint64_t wanted = geometry.planes[plane].bytes_per_chunk;
  uint64_t bytes = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].data == nullptr && pieces[i].bytes > 0) {
      return absl::InvalidArgumentError(absl::StrCat("chunk ", chunk, " plane ", plane, " piece ",
                                                     i, ": a null buffer of ", pieces[i].bytes,
                                                     " bytes"));
    }
    // Compared with what is left, so that the sum cannot overflow.
    if (pieces[i].bytes > wanted - bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("chunk ", chunk, " plane ", plane, ": the buffers hold more than the ",
                       wanted, " bytes of plane ", geometry.planes[plane].name, " (piece ", i,
                       " has ", pieces[i].bytes, " bytes, ", wanted - bytes, " are left)"));
    }
    bytes += pieces[i].bytes;
  }
  if (bytes != wanted) {
    return absl::InvalidArgumentError(absl::StrCat("chunk ", chunk, " plane ", plane,
                                                   ": the buffers hold ", bytes, " bytes, plane ",
                                                   geometry.planes[plane].name, " has ", wanted));
  }
  return absl::OkStatus();
}

// Walks through a list of buffers from the first byte to the last. Not thread-safe.
template <typename Piece>
class BufferCursor {
 public:
  explicit BufferCursor(const std::vector<Piece>& pieces) : pieces_(&pieces) {}

  // Calls `copy(address, bytes)` for the next `bytes` bytes, in as many parts as there are buffers.
  // The caller knows that so many are left.
  template <typename Copy>
  void Next(size_t bytes, Copy&& copy) {
    while (bytes > 0) {
      const Piece& piece = (*pieces_)[index_];
      const size_t part = std::min(bytes, piece.bytes - offset_);
      if (part > 0) {
        using Byte =
            std::conditional_t<std::is_same_v<Piece, ConstBuffer>, const std::byte, std::byte>;
        copy(static_cast<Byte*>(piece.data) + offset_, part);
      }
      offset_ += part;
      bytes -= part;
      if (offset_ == piece.bytes) {
        ++index_;
        offset_ = 0;
      }
    }
  }

 private:
  const std::vector<Piece>* pieces_;
  size_t index_ = 0;
  size_t offset_ = 0;
};

}  // namespace kvtier
