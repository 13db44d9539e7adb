// Figures `put_in_place`, `get_in_place` and `get_in_place_unverified`: what a client copies into
// and out of memory that it shares with its daemon, beside a plain loop over memory of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/figure.h"
#include "tiering/base/bytes.h"

namespace kvtier::bench {

struct InPlaceFigureOptions {
  std::string socket;           // of the daemon to measure
  Bytes region_bytes = GiB(1);  // stored there, and as much twice over in the client
  Bytes block_bytes = KiB(256);
  int blocks_per_run = 64;  // of one Put or Get
  int runs = 61;
  uint64_t seed = 1;
  // The daemon's counters by name, as its status has them.
  std::function<absl::StatusOr<std::map<std::string, uint64_t>>()> counters;
  // Asked between runs: an error ends the measurement and is passed on.
  std::function<absl::Status()> check = [] { return absl::OkStatus(); };
};

// Each run puts (gets) other blocks than the runs before, in random order, until all were through;
// the plain loop does the same in turn with it. The values are GB/s; the ratio is the median of the
// runs' ratios. INTERNAL when the daemon copied or hashed a byte, or a byte is wrong in the end;
// FAILED_PRECONDITION when there is no shared memory.
absl::StatusOr<std::vector<Figure>> InPlaceFigures(const InPlaceFigureOptions& options);

}  // namespace kvtier::bench
