// Reads a leased block in pieces, verified, without holding the engine's lock or a section longer
// than one piece's copy.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "daemon/engine_host.h"
#include "tiering/engine/engine.h"

namespace kvtier {

// Not thread-safe; one per stream.
class BlockReader {
 public:
  // A piece of the block at `offset`. With `last`, the whole block's checksum was right and is
  // given, as is the pool of the last piece.
  struct Piece {
    uint64_t offset = 0;
    std::string* bytes =
        nullptr;  // may be moved from, but must be given back to save an allocation
    bool last = false;
    uint64_t checksum = 0;
    PoolId pool;
  };
  // False stops the read, which then returns CANCELLED.
  using Sink = absl::FunctionRef<bool(const Piece&)>;

  // `piece_bytes_max` is a multiple of wire::kChecksumPieceBytes.
  BlockReader(EngineHost* host, Caller caller, LeaseId lease, uint64_t piece_bytes_max)
      : host_(host), caller_(caller), lease_(lease), piece_bytes_max_(piece_bytes_max) {}

  // Planes of the chunk that have a copy.
  absl::Status Planes(uint32_t chunk, std::vector<PlaneIndex>& planes);

  // Pieces come in order, each once. A block that fits one piece is verified as it is copied; a
  // larger one before its first piece, so that another copy can be taken, and again on the way: if
  // that fails, pieces have reached the sink, but no last one. NOT_FOUND: the plane has no copy, or
  // the lease ended. DATA_LOSS: no copy has the checksum; the bad ones were reported to the engine.
  absl::Status Read(uint32_t chunk, PlaneIndex plane, Sink sink);

 private:
  // One pass over the block. True: all sent and verified. False: the checksum was wrong.
  absl::StatusOr<bool> ReadOnce(uint32_t chunk, PlaneIndex plane, Sink sink);
  // Checks every copy and reports those that are bad.
  absl::Status DropBadCopies(uint32_t chunk, PlaneIndex plane);
  absl::StatusOr<ReadTarget> Resolve(Engine& engine, uint32_t chunk, PlaneIndex plane);

  EngineHost* host_;
  Caller caller_;
  LeaseId lease_;
  uint64_t piece_bytes_max_;
  std::string buffer_;
  std::vector<ReadTarget> targets_;
};

}  // namespace kvtier
