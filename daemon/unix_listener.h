// The listening end of a Unix socket, from binding to removal.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace kvtier {

// Removes the socket when it goes, if it is still the one it made, and the directory if it made
// that.
class UnixListener {
 public:
  // Makes the directory if it is missing (0700, or 0755 when `mode` lets other users in), and gives
  // the socket its mode before anyone can connect. A socket that nobody answers on is replaced.
  // ALREADY_EXISTS: another process answers there; INVALID_ARGUMENT: the path is too long, or names
  // something else than a socket; UNAVAILABLE: a system call failed.
  static absl::StatusOr<std::unique_ptr<UnixListener>> Create(const std::string& path,
                                                              uint32_t mode);
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
  uint64_t device_ = 0;         // of the socket, with inode_
  uint64_t inode_ = 0;
};

}  // namespace kvtier
