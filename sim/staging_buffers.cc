#include "sim/staging_buffers.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace kvtier::sim {

absl::StatusOr<StagingBuffers> MakeStagingBuffers(uint64_t staging_bytes, uint64_t tiers,
                                                  uint64_t block_bytes, uint64_t own_room) {
  if (tiers == 0) return StagingBuffers{.buffer_bytes = block_bytes, .all_bytes = 0};
  const uint64_t buffers = 2 * tiers;
  uint64_t each = staging_bytes / buffers / block_bytes;
  if (staging_bytes == 0)
    each =
        std::max<uint64_t>(std::min(kStagingBufferBytes, own_room / 16 / buffers) / block_bytes, 1);
  if (each == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "staging of ", staging_bytes, " bytes: ", buffers, " buffers that hold a block of ",
        block_bytes, " bytes each take ", buffers * block_bytes));
  }
  const StagingBuffers made{.buffer_bytes = each * block_bytes,
                            .all_bytes = buffers * each * block_bytes};
  if (made.all_bytes <= own_room) return made;
  return absl::FailedPreconditionError(absl::StrCat("staging buffers take ", made.all_bytes,
                                                    " bytes, and the GPU's own memory has ",
                                                    own_room, " beside the weights"));
}

}  // namespace kvtier::sim
