// Figures `index_resolve_single`, `index_resolve_batch64`, `index_row` and `section_enter_leave`:
// what a client of shared memory pays to find blocks by itself.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/figure.h"

namespace kvtier::bench {

struct IndexShape {
  uint64_t chunks = 0;
  uint32_t planes = 0;
};

struct IndexFigureOptions {
  std::vector<IndexShape> shapes = {{312'500, 32}, {10'000'000, 1}};
  uint32_t runs = 501;      // of each figure, in turn with the ceiling
  uint32_t accesses = 512;  // of a run; a multiple of 64
  uint64_t seed = 1;
};

// For each shape and page size: an index in a memfd, written by TenantShare and read by
// wire::IndexReader. Keys and planes are random. `_single`: the key of each resolve depends on the
// word that the one before gave, so nothing overlaps. `_batch64`: 64 blocks in one call. `_row`:
// all planes of a chunk, 64 chunks in one call, by block. Ceiling: one read of a random cache line,
// each address from the line before, over as much memory of the same pages; of a section: an
// uncontended seq_cst exchange. Pages: 4 KiB, and 2 MiB where the machine gives them (hugetlb, else
// transparent); the last figure's note tells where it did not. INVALID_ARGUMENT: options out of
// range.
absl::StatusOr<std::vector<Figure>> IndexFigures(const IndexFigureOptions& options);

}  // namespace kvtier::bench
