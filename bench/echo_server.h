// The ceiling of the RPC figure: a server that answers the same messages and does nothing else.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace kvtier::bench {

// Serves KvCache on a Unix socket with the same kind of gRPC server as kvtierd's, and with no more
// behind it than a fixed answer to Lookup and Release. Writes a byte to `ready_fd` when it listens
// and runs until SIGTERM.
absl::Status RunEchoServer(const std::string& socket, int ready_fd);

}  // namespace kvtier::bench
