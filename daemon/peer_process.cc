#include "daemon/peer_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace kvtier {

// From Linux 6.5 on the socket itself knows its peer; before, the pid may have been reused since
// the connection was made, which a connection that is still open rules out for all but processes
// that passed it on.
OwnedFd OpenPeerProcess(int connection, pid_t pid, PeerLookup lookup) {
#ifdef SO_PEERPIDFD
  constexpr int kPeerPidfd = SO_PEERPIDFD;
#else
  constexpr int kPeerPidfd = 77;
#endif
  int pidfd = -1;
  socklen_t length = sizeof pidfd;
  if (lookup == PeerLookup::kSocket &&
      getsockopt(connection, SOL_SOCKET, kPeerPidfd, &pidfd, &length) == 0 && pidfd >= 0) {
    fcntl(pidfd, F_SETFD, FD_CLOEXEC);
    return OwnedFd(pidfd);
  }
  if (pid <= 0) return {};
  OwnedFd opened(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!opened.valid()) return {};
  pollfd hung_up{.fd = connection, .events = POLLRDHUP, .revents = 0};
  if (poll(&hung_up, 1, 0) > 0 && (hung_up.revents & (POLLRDHUP | POLLHUP)) != 0) return {};
  return opened;
}

}  // namespace kvtier
