// Figures `copy_verified` and `copy_plain`: what one core copies of cold blocks, with the checksum
// fused in and without, beside the fastest of a few plain loops.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/figure.h"
#include "tiering/base/bytes.h"

namespace kvtier::bench {

struct CopyFigureOptions {
  Bytes region_bytes =
      GiB(1);  // of each of source and destination; cold means several times the caches
  Bytes block_bytes = KiB(256);
  int blocks_per_run = 64;  // copied back to back, each way
  int runs = 101;
  uint64_t seed = 1;  // of the order in which blocks are copied
};

// One run copies different blocks plain, verified and by the ceiling's loop, in random order; no
// block comes again before the whole region was through. The loop is the fastest over all runs, of
// those that a first round found to be within 5 % of the best. A figure's ratio is the median of
// the runs' ratios. Takes about four seconds by default. INVALID_ARGUMENT: sizes that do not fit
// each other; RESOURCE_EXHAUSTED: the machine lacks the memory.
absl::StatusOr<std::vector<Figure>> CopyFigures(const CopyFigureOptions& options);

}  // namespace kvtier::bench
