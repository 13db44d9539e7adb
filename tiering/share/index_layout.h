// Where the regions of a tenant's index are (proto/wire/shared_index.h), by what may be in it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "proto/wire/relocation_log.h"
#include "proto/wire/shared_index.h"

namespace kvtier {

// Rows and blocks (there or not) of one tenant, at most.
struct IndexLimits {
  uint64_t chunks_max = 0;
  uint64_t blocks_max = 0;
};

// All in bytes from the start, or in elements. Memory is taken only as it is used, so regions are
// as large as could ever be needed.
struct IndexLayout {
  static constexpr uint64_t kLogEntries = 1u << 14;
  // Rows that a bucket has on average when another one is added. More would fill chains, fewer
  // would cost memory: at 4 of 7 about one row in ten is behind a link, and a row takes 17 bytes.
  static constexpr uint64_t kRowsPerBucket = 4;
  static constexpr uint64_t kLinesMax = 0xffff'fff0u;

  uint64_t log_offset = 0, log_entries = kLogEntries;
  uint64_t buckets_offset = 0, buckets_max = 0;
  uint64_t overflow_offset = 0, overflow_max = 0;
  uint64_t rows_offset = 0, lines_max = 0;
  uint64_t total_bytes = 0;

  static IndexLayout For(const IndexLimits& limits) {
    const auto page = [](uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; };
    IndexLayout layout;
    layout.buckets_max = std::bit_ceil(limits.chunks_max / kRowsPerBucket + 1);
    layout.overflow_max = layout.buckets_max / 2 + 64;
    // A row wastes less than a line. Lines that were cut for rows of one size are not used for
    // another, so there are as many again for models that come later.
    const uint64_t row_bytes = sizeof(wire::RowHeader) + wire::kLineBytes - 1;
    const uint64_t bytes = limits.chunks_max * row_bytes + limits.blocks_max * wire::kPlaneBytes;
    layout.lines_max = std::min(kLinesMax, 2 * (bytes / wire::kLineBytes + 1));
    layout.log_offset = wire::kIndexHeaderBytes;
    layout.buckets_offset =
        page(layout.log_offset + layout.log_entries * sizeof(wire::RelocationEntry));
    layout.overflow_offset =
        page(layout.buckets_offset + layout.buckets_max * sizeof(wire::IndexBucket));
    layout.rows_offset =
        page(layout.overflow_offset + layout.overflow_max * sizeof(wire::IndexBucket));
    layout.total_bytes = page(layout.rows_offset + layout.lines_max * wire::kLineBytes);
    return layout;
  }
};

}  // namespace kvtier
