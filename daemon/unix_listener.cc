#include "daemon/unix_listener.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
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

// Removes a socket that nobody answers on. The caller holds the lock.
absl::Status RemoveStale(const std::string& path, const sockaddr_un& address, int type) {
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0) {
    return errno == ENOENT ? absl::OkStatus() : SystemError("stat", path);
  }
  if (!S_ISSOCK(found.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " exists and is not a socket; it is left alone"));
  }
  const int probe = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
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

// Two daemons that start at once must not both find the old socket stale. The lock is on a file of
// our own that nobody else can open: a lock on the directory could be held by all who may read it.
class SocketLock {
 public:
  static absl::StatusOr<std::unique_ptr<SocketLock>> Acquire(const std::string& path,
                                                             absl::Duration timeout) {
    auto lock = std::unique_ptr<SocketLock>(new SocketLock(path));
    const absl::Time deadline = absl::Now() + timeout;
    while (true) {
      KVTIER_ASSIGN_OR_RETURN(const bool held, lock->Try());
      if (held) return lock;
      if (absl::Now() >= deadline) return lock->HeldElsewhere();
      poll(nullptr, 0, kRetryMs);
    }
  }
  ~SocketLock() {
    // While it is held, so that it is not another process's.
    if (held_) unlink(path_.c_str());
    Close();
  }
  SocketLock(const SocketLock&) = delete;
  SocketLock& operator=(const SocketLock&) = delete;

 private:
  static constexpr int kRetryMs = 20;

  explicit SocketLock(std::string path) : path_(std::move(path)) {}
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

  absl::StatusOr<bool> Try() {
    Close();
    // Whatever else stands under the name is neither followed nor waited for.
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd_ < 0) return SystemError("open", path_);
    struct stat opened {};
    if (fstat(fd_, &opened) != 0) return SystemError("stat", path_);
    if (!S_ISREG(opened.st_mode)) {
      return absl::UnavailableError(
          absl::StrCat(path_, " is not a plain file: remove it, or use another socket"));
    }
    if (opened.st_uid != geteuid()) {
      return absl::UnavailableError(absl::StrCat(path_, " belongs to uid ", opened.st_uid,
                                                 ", not to uid ", geteuid(),
                                                 ": remove it, or use another socket"));
    }
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK || errno == EINTR) return false;
      return SystemError("lock", path_);
    }
    // Its last holder may have removed it since it was opened.
    struct stat named {};
    if (lstat(path_.c_str(), &named) != 0 || named.st_ino != opened.st_ino ||
        named.st_dev != opened.st_dev) {
      return false;
    }
    held_ = true;
    const std::string pid = absl::StrCat(getpid(), "\n");
    if (ftruncate(fd_, 0) != 0 || write(fd_, pid.data(), pid.size()) < 0)
      return SystemError("write", path_);
    return true;
  }

  absl::Status HeldElsewhere() const {
    char text[16] = {};
    int pid = 0;
    const bool known =
        pread(fd_, text, sizeof text - 1, 0) > 0 && absl::SimpleAtoi(text, &pid) && pid > 0;
    return absl::UnavailableError(
        absl::StrCat("another process", known ? absl::StrCat(" (pid ", pid, ")") : std::string(),
                     " holds ", path_, ", as a kvtierd does while it starts"));
  }

  std::string path_;
  int fd_ = -1;
  bool held_ = false;
};

// Of a directory on the way to `path` that is missing.
std::string FirstMissing(const std::string& path) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    const std::string parent = path.substr(0, slash);
    struct stat found {};
    if (stat(parent.c_str(), &found) != 0 && errno == ENOENT) return parent;
  }
  return "";
}

// Returns whether it made the directory.
absl::StatusOr<bool> MakeDirectory(const std::string& directory, mode_t mode) {
  if (mkdir(directory.c_str(), mode) == 0) {
    // mkdir obeys the umask.
    if (chmod(directory.c_str(), mode) != 0) return SystemError("chmod", directory);
    return true;
  }
  if (errno == EEXIST) return false;
  const absl::Status failed = SystemError("make directory", directory);
  const std::string missing = errno == ENOENT ? FirstMissing(directory) : "";
  if (missing.empty()) return failed;
  return absl::UnavailableError(
      absl::StrCat("make directory ", directory, ": ", missing, " does not exist"));
}

}  // namespace

SocketFile SocketFile::Of(const std::string& path) {
  SocketFile file;
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0) return file;
  file.path_ = path;
  file.device_ = found.st_dev;
  file.inode_ = found.st_ino;
  return file;
}

void SocketFile::Remove() const {
  struct stat found {};
  if (inode_ != 0 && lstat(path_.c_str(), &found) == 0 && found.st_dev == device_ &&
      found.st_ino == inode_) {
    unlink(path_.c_str());
  }
}

absl::StatusOr<std::unique_ptr<UnixListener>> UnixListener::Create(const std::string& path,
                                                                   uint32_t mode,
                                                                   absl::Duration lock_timeout,
                                                                   int type) {
  KVTIER_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "."
                                : slash == 0               ? "/"
                                                           : path.substr(0, slash);
  KVTIER_ASSIGN_OR_RETURN(const bool made_directory,
                          MakeDirectory(directory, (mode & 077) != 0 ? 0755 : 0700));
  KVTIER_ASSIGN_OR_RETURN(const std::unique_ptr<SocketLock> lock,
                          SocketLock::Acquire(path + ".lock", lock_timeout));
  KVTIER_RETURN_IF_ERROR(RemoveStale(path, address, type));
  const int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return SystemError("socket for", path);
  auto listener = std::unique_ptr<UnixListener>(new UnixListener(path, fd));
  if (made_directory) listener->made_directory_ = directory;
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return SystemError("bind", path);
  }
  listener->file_ = SocketFile::Of(path);
  // Until listen() every connection is refused, so nobody gets in between bind and chmod.
  if (chmod(path.c_str(), mode) != 0) return SystemError("chmod", path);
  if (listen(fd, kBacklog) != 0) return SystemError("listen on", path);
  return listener;
}

UnixListener::~UnixListener() {
  file_.Remove();
  // Stays if somebody put something else there.
  if (!made_directory_.empty()) rmdir(made_directory_.c_str());
  close(fd_);
}

}  // namespace kvtier
