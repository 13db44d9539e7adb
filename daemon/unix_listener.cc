#include "daemon/unix_listener.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

constexpr int kBacklog = 256;

absl::Status SystemError(absl::string_view what, const std::string& path) {
  return absl::UnavailableError(absl::StrCat(what, " ", path, ": ", std::strerror(errno)));
}

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(absl::StrCat("socket path `", path, "` has ", path.size(),
                                                   " bytes; 1 to ", sizeof address.sun_path - 1,
                                                   " are allowed"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Removes a socket that nobody answers on. The caller holds the directory's lock.
absl::Status RemoveStale(const std::string& path, const sockaddr_un& address) {
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0) {
    return errno == ENOENT ? absl::OkStatus() : SystemError("stat", path);
  }
  if (!S_ISSOCK(found.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " exists and is not a socket; it is left alone"));
  }
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return SystemError("socket for", path);
  const absl::Cleanup close_probe = [probe] { close(probe); };
  if (connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EAGAIN) {
    ucred peer{};
    socklen_t length = sizeof peer;
    const bool known =
        getsockopt(probe, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid > 0;
    return absl::AlreadyExistsError(absl::StrCat(
        "another process", known ? absl::StrCat(" (pid ", peer.pid, ")") : std::string(),
        " answers on socket ", path));
  }
  if (errno != ECONNREFUSED && errno != ENOENT) return SystemError("connect to", path);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return SystemError("unlink stale", path);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<UnixListener>> UnixListener::Create(const std::string& path,
                                                                   uint32_t mode) {
  KVTIER_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "."
                                : slash == 0               ? "/"
                                                           : path.substr(0, slash);
  const mode_t directory_mode = (mode & 077) != 0 ? 0755 : 0700;
  bool made_directory = false;
  if (mkdir(directory.c_str(), directory_mode) == 0) {
    made_directory = true;
    // mkdir obeys the umask.
    if (chmod(directory.c_str(), directory_mode) != 0) return SystemError("chmod", directory);
  } else if (errno != EEXIST) {
    return SystemError("make directory", directory);
  }

  // Two daemons that start at once must not both find the old socket stale.
  const int directory_fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory_fd < 0) return SystemError("open directory", directory);
  const absl::Cleanup close_directory = [directory_fd] { close(directory_fd); };
  if (flock(directory_fd, LOCK_EX) != 0) return SystemError("lock directory", directory);

  KVTIER_RETURN_IF_ERROR(RemoveStale(path, address));
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return SystemError("socket for", path);
  auto listener = std::unique_ptr<UnixListener>(new UnixListener(path, fd));
  if (made_directory) listener->made_directory_ = directory;
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return SystemError("bind", path);
  }
  struct stat made {};
  if (lstat(path.c_str(), &made) != 0) return SystemError("stat", path);
  listener->device_ = made.st_dev;
  listener->inode_ = made.st_ino;
  // Until listen() every connection is refused, so nobody gets in between bind and chmod.
  if (chmod(path.c_str(), mode) != 0) return SystemError("chmod", path);
  if (listen(fd, kBacklog) != 0) return SystemError("listen on", path);
  return listener;
}

UnixListener::~UnixListener() {
  struct stat found {};
  if (inode_ != 0 && lstat(path_.c_str(), &found) == 0 && found.st_dev == device_ &&
      found.st_ino == inode_) {
    unlink(path_.c_str());
  }
  // Stays if somebody put something else there.
  if (!made_directory_.empty()) rmdir(made_directory_.c_str());
  close(fd_);
}

}  // namespace kvtier
