// The process at the other end of a Unix socket.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "tiering/host/owned_fd.h"

namespace kvtier {

// What tells which process it is.
enum class PeerLookup : uint8_t {
  kSocket,  // the socket itself, where the kernel can; else the pid
  kPid,     // the pid, as on a kernel before 6.5
};

// Becomes readable when the process `pid` that made the connection ends. Not valid when that
// cannot be known: the process is gone, or has no pid in this namespace (0) and only its pid would
// tell.
OwnedFd OpenPeerProcess(int connection, pid_t pid, PeerLookup lookup = PeerLookup::kSocket);

}  // namespace kvtier
