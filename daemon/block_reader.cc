#include "daemon/block_reader.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/copy_check.h"
#include "proto/wire/block_copy.h"
#include "proto/wire/checksum.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

// Two copies may turn out bad one after the other, and a third may have been made meanwhile.
constexpr int kAttemptsMax = 4;

// Copies a piece that begins at a multiple of the checksum's own pieces, and adds their hashes.
// Each is hashed where it was copied to, still in the cache: the checksum vouches for the bytes
// that are sent.
uint64_t CopyPiece(std::byte* to, const std::byte* from, uint64_t offset, uint64_t bytes,
                   uint64_t combined) {
  for (uint64_t done = 0; done < bytes; done += wire::kChecksumPieceBytes) {
    const size_t part =
        static_cast<size_t>(std::min<uint64_t>(wire::kChecksumPieceBytes, bytes - done));
    std::memcpy(to + done, from + done, part);
    combined = wire::CombinePiece(combined, (offset + done) / wire::kChecksumPieceBytes,
                                  wire::PieceChecksum(to + done, part));
  }
  return combined;
}

}  // namespace

absl::Status BlockReader::Planes(uint32_t chunk, std::vector<PlaneIndex>& planes) {
  targets_.clear();
  KVTIER_RETURN_IF_ERROR(host_->With([&](Engine& engine, absl::Time) {
    return engine.Resolve(caller_, lease_, chunk, {}, targets_);
  }));
  planes.clear();
  for (const ReadTarget& target : targets_) {
    if (target.copy_count > 0) planes.push_back(target.plane);
  }
  return absl::OkStatus();
}

absl::StatusOr<ReadTarget> BlockReader::Resolve(Engine& engine, uint32_t chunk, PlaneIndex plane) {
  targets_.clear();
  KVTIER_RETURN_IF_ERROR(
      engine.Resolve(caller_, lease_, chunk, absl::MakeConstSpan(&plane, 1), targets_));
  if (targets_.empty() || targets_.front().copy_count == 0) {
    return absl::NotFoundError(absl::StrFormat("chunk %d of lease %d has no plane %d", chunk,
                                               lease_.value(), plane.value()));
  }
  return targets_.front();
}

absl::StatusOr<bool> BlockReader::ReadOnce(uint32_t chunk, PlaneIndex plane, Sink sink) {
  uint64_t offset = 0;
  uint64_t block_bytes = 0;
  uint64_t combined = 0;
  do {
    absl::StatusOr<ReadTarget> target;
    uint64_t bytes = 0;
    {
      const EngineSection section(
          *host_, [&](Engine& engine, absl::Time) { target = Resolve(engine, chunk, plane); });
      KVTIER_RETURN_IF_ERROR(target.status());
      const std::byte* address = target->copies[0].address;
      if (address == nullptr) {
        return absl::UnimplementedError(
            absl::StrCat("pool ", target->copies[0].pool.value(),
                         " has no address that bytes could be read from"));
      }
      block_bytes = static_cast<uint64_t>(target->bytes.count());
      bytes = std::min(piece_bytes_max_, block_bytes - offset);
      buffer_.resize(bytes);
      auto* to = reinterpret_cast<std::byte*>(buffer_.data());
      if (bytes == block_bytes) {
        combined = wire::CopyWithChecksum(to, address, bytes);
      } else {
        // Pieces that were sent cannot be taken back, so a copy is checked as a whole before the
        // first.
        if (offset == 0) {
          if (wire::BlockChecksum(absl::MakeConstSpan(address, block_bytes)) != target->checksum) {
            return false;
          }
          combined = wire::ChecksumSeed(block_bytes);
        }
        combined = CopyPiece(to, address + offset, offset, bytes, combined);
      }
    }
    const bool last = offset + bytes == block_bytes;
    if (last && combined != target->checksum) {
      if (offset == 0) return false;
      KVTIER_RETURN_IF_ERROR(DropBadCopies(chunk, plane));
      return absl::DataLossError(
          absl::StrFormat("chunk %d of lease %d, plane %d went bad while it was read", chunk,
                          lease_.value(), plane.value()));
    }
    if (!sink({.offset = offset,
               .bytes = &buffer_,
               .last = last,
               .checksum = combined,
               .pool = target->copies[0].pool})) {
      return absl::CancelledError("the reader is gone");
    }
    offset += bytes;
  } while (offset < block_bytes);
  host_->With([&](Engine& engine, absl::Time) {
    engine.CountVerified(Bytes(static_cast<int64_t>(block_bytes)));
  });
  return true;
}

absl::Status BlockReader::DropBadCopies(uint32_t chunk, PlaneIndex plane) {
  absl::StatusOr<ReadTarget> target;
  const EngineSection section(
      *host_, [&](Engine& engine, absl::Time) { target = Resolve(engine, chunk, plane); });
  KVTIER_RETURN_IF_ERROR(target.status());
  if (CheckCopies(*host_, *target).good > 0) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrFormat("chunk %d of lease %d, plane %d: no copy has checksum %016x; %d dropped",
                      chunk, lease_.value(), plane.value(), target->checksum, target->copy_count));
}

absl::Status BlockReader::Read(uint32_t chunk, PlaneIndex plane, Sink sink) {
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    KVTIER_ASSIGN_OR_RETURN(const bool verified, ReadOnce(chunk, plane, sink));
    if (verified) return absl::OkStatus();
    KVTIER_RETURN_IF_ERROR(DropBadCopies(chunk, plane));
  }
  return absl::DataLossError(
      absl::StrFormat("chunk %d of lease %d, plane %d: %d reads had a wrong checksum", chunk,
                      lease_.value(), plane.value(), kAttemptsMax));
}

}  // namespace kvtier
