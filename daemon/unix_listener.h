// The listening end of a Unix socket, from binding to removal.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kvtier {

// Who a path names now, told by its inode: what somebody else puts there later is left alone.
// Removing is safe in any thread, at any time.
class SocketFile {
 public:
  SocketFile() = default;
  // Nothing to remove when there is no such file.
  static SocketFile Of(const std::string& path);
  void Remove() const;

 private:
  std::string path_;
  uint64_t device_ = 0;
  uint64_t inode_ = 0;  // 0: no file
};

// Removes the socket when it goes, if it is still the one it made, and the directory if it made
// that.
class UnixListener {
 public:
  // Makes the directory if it is missing (0700, or 0755 when `mode` lets other users in), and gives
  // the socket its mode before anyone can connect. A socket that nobody answers on is replaced. For
  // that it holds a lock on the file PATH.lock, which is this user's alone, and removes it again.
  // ALREADY_EXISTS: another process answers there; INVALID_ARGUMENT: the path is too long, or names
  // something else than a socket; UNAVAILABLE: a system call failed, or another process held the
  // lock for all of `lock_timeout`.
  // `type` is SOCK_STREAM or SOCK_SEQPACKET.
  static absl::StatusOr<std::unique_ptr<UnixListener>> Create(
      const std::string& path, uint32_t mode, absl::Duration lock_timeout = absl::Seconds(5),
      int type = SOCK_STREAM);
  ~UnixListener();
  UnixListener(const UnixListener&) = delete;
  UnixListener& operator=(const UnixListener&) = delete;

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }

 private:
  UnixListener(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_;
  std::string made_directory_;  // empty: it was there before
  SocketFile file_;
};

}  // namespace kvtier
