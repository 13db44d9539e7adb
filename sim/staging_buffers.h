// What streaming keeps free of blocks in the GPU's own memory.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

namespace kvtier::sim {

// Each tier but the GPU's own memory has two: while one is read, the other is filled.
struct StagingBuffers {
  uint64_t buffer_bytes = 0;  // whole blocks, at least one
  uint64_t all_bytes = 0;     // of all tiers' buffers together
};

// Of buffers without a size of their own: long enough to hide the latency of a copy.
inline constexpr uint64_t kStagingBufferBytes = 1 << 20;

// `own_room`: bytes of the GPU's own memory beside the weights. `staging_bytes`: of all buffers
// together at most; 0: buffers of kStagingBufferBytes, or all of them a sixteenth of `own_room`,
// whichever is less. A buffer has room for a block at least. With the numbers, INVALID_ARGUMENT:
// less than that in `staging_bytes`; FAILED_PRECONDITION: more than there is in `own_room`.
absl::StatusOr<StagingBuffers> MakeStagingBuffers(uint64_t staging_bytes, uint64_t tiers,
                                                  uint64_t block_bytes, uint64_t own_room);

}  // namespace kvtier::sim
