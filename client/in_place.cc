#include "client/in_place.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "client/block_pieces.h"

namespace kvtier {

absl::Status PutInPlace(ReservationRecord& reservation, absl::Span<const BlockSource> blocks) {
  const ModelGeometry& geometry = *reservation.terms().model->geometry();
  for (const BlockSource& block : blocks) {
    absl::Status status = reservation.CheckBlock(block.chunk, block.plane);
    if (status.ok()) status = CheckBuffers(geometry, block.chunk, block.plane, block.pieces);
    if (!status.ok()) return status;
  }
  for (const BlockSource& block : blocks) {
    auto slot = reservation.Slot(block.chunk, block.plane);
    if (!slot.ok()) return slot.status();
    reservation.SetChecksum(
        block.chunk, block.plane,
        GatherBlock(*slot, block.pieces, geometry.planes[block.plane].bytes_per_chunk));
  }
  return absl::OkStatus();
}

void GetInPlace(const LeaseRecord& lease, Verify verify, BlockFinder::Complain complain,
                absl::Span<const BlockDestination> blocks, absl::Span<BlockResult> results) {
  const ModelGeometry& geometry = *lease.model->geometry();
  BlockFinder finder(lease.link->memory().get(), verify, complain);
  for (size_t i = 0; i < blocks.size(); ++i) {
    const BlockDestination& block = blocks[i];
    const WantedBlock wanted{lease.rows[block.chunk], block.plane,
                             geometry.planes[block.plane].bytes_per_chunk};
    const FoundBlock found = finder.Find(wanted, [&](const std::byte* data, uint64_t checksum) {
      if (verify == Verify::kOff) {
        ScatterUnverified(block.pieces, data, wanted.bytes);
        return true;
      }
      return ScatterBlock(block.pieces, data, wanted.bytes) == checksum;
    });
    if (found.view.data != nullptr) {
      results[i] = {absl::OkStatus(), std::string(found.view.pool)};
    } else if (found.view.code == absl::StatusCode::kDataLoss) {
      results[i] = {absl::DataLossError(absl::StrCat("chunk ", block.chunk, " plane ", block.plane,
                                                     ": no copy has its checksum")),
                    std::string()};
    } else {
      results[i] = {absl::UnavailableError(absl::StrCat("chunk ", block.chunk, " plane ",
                                                        block.plane, " cannot be read in place")),
                    std::string()};
    }
  }
}

}  // namespace kvtier
