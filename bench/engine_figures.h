// Figures of the engine alone, on pools without bytes: `engine_operation`,
// `engine_metadata_bytes_per_block`, and the same of an engine that shares its index, with
// `engine_report`.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/figure.h"

namespace kvtier::bench {

struct EngineFigureOptions {
  uint64_t blocks = 10'000'000;
  uint32_t planes = 1;      // of a chunk; `blocks` is a multiple of it
  uint32_t batches = 2000;  // of 900 calls and about 100 moves
  bool shared = false;      // the index in shared memory too, and reports by ring
  uint64_t seed = 1;
};

// Fills an EngineWorkload and runs its batches; a value of `engine_operation` is a batch's time by
// its operations. Metadata is what the process grew by until the blocks were stored and the
// workload had run for a while and held its leases; a million blocks, where there are more, are
// measured for comparison. With `shared`: the names of both end otherwise, and reports are timed.
// Takes about a minute and 2.5 GB by default, 4 GB shared. INVALID_ARGUMENT: options out of range.
// Forks: call it while the process has one thread.
absl::StatusOr<std::vector<Figure>> EngineFigures(const EngineFigureOptions& options);

}  // namespace kvtier::bench
