// Figures `rpc_lookup_lease_256` and `rpc_lookup_lease_256_of_64_planes`: one Lookup of 256 chunks
// with a lease, beside an echo of the same messages.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/figure.h"

namespace kvtier::bench {

struct RpcFigureOptions {
  std::string socket;       // of the daemon to measure
  std::string echo_socket;  // of a running RunEchoServer()
  int chunks = 256;
  int calls_per_round = 200;
  int rounds = 31;
  // Asked between calls: an error ends the measurement and is passed on.
  std::function<absl::Status()> check = [] { return absl::OkStatus(); };
};

// For a model of one plane and then for one of 64: stores `chunks` chunks of its own, which it
// forgets in the end, whatever happens; then calls daemon and echo in turn, `calls_per_round` times
// each a round. The lease is released outside the time. Values are microseconds; the ratio is the
// median over rounds of the two medians. UNAVAILABLE and other errors of the daemon are passed on.
absl::StatusOr<std::vector<Figure>> RpcFigures(const RpcFigureOptions& options);

}  // namespace kvtier::bench
