// Reads through staging buffers in the GPU's own memory, while the GPU works.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "sim/simulated_engine.h"
#include "sim/staging_buffers.h"

namespace kvtier::sim {

// Work of the phase that has begun, all of it at the same time: `bytes` come from each tier, and
// the GPU's own memory serves `own_bytes` beside. What is elsewhere is copied to a buffer and read
// there, which loads its memory and link once, and the GPU's own memory twice. A buffer is read
// when it has been filled, and filled again when it has been read.
void ReadStaged(SimulatedEngine& sim, const StagingBuffers& buffers,
                absl::Span<const uint64_t> bytes, uint64_t own_bytes);

}  // namespace kvtier::sim
