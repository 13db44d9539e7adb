// Figures `engine_operation` and `engine_metadata_bytes_per_block`: the engine alone, on pools
// without bytes.
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
  uint64_t seed = 1;
};

// Fills an engine with `blocks` blocks of 4 KiB, in prefixes of 4 chunks, in two pools that are
// then about full, so that writing evicts, and runs the LRU policy. A batch is, in random order,
// 300 lookups of a random chunk with a lease, 300 releases, 100 reservations of a chunk and 100
// commits of it, and 100 lookups without a lease (touches); then two Ticks, which finish and start
// 50 of the policy's moves each. Every call and every finished move is one operation; a value is a
// batch's time by its operations. Metadata is what the process grew by until the blocks were stored
// and the workload had run for a while and held its leases; a million blocks, where there are more,
// are measured for comparison. Takes about a minute and 2.5 GB by default. INVALID_ARGUMENT:
// options out of range. Forks: call it while the process has one thread.
absl::StatusOr<std::vector<Figure>> EngineFigures(const EngineFigureOptions& options);

}  // namespace kvtier::bench
