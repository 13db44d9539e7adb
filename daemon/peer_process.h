// The process at the other end of a Unix socket.
#pragma once

#include <sys/types.h>

#include "tiering/host/owned_fd.h"

namespace kvtier {

// Becomes readable when the process `pid` that made the connection ends. Not valid when that
// cannot be known: the process is gone, or has no pid in this namespace (0) on a kernel without
// SO_PEERPIDFD.
OwnedFd OpenPeerProcess(int connection, pid_t pid);

}  // namespace kvtier
