// Programs that the command starts beside itself, and ends with it.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kvtier::cli {

// A directory under $TMPDIR, removed with all it holds.
class ScratchDirectory {
 public:
  static absl::StatusOr<std::unique_ptr<ScratchDirectory>> Create();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  ScratchDirectory() = default;
  std::string path_;
};

// Not thread-safe. Start before gRPC is used: it forks. The child dies with the thread that started
// it, and with this object.
class ChildProcess {
 public:
  struct Options {
    std::string program{};  // its path
    std::vector<std::string> argv{};
    // What it gets as its standard input, output and error; -1: this program's own.
    int input_fd = -1;
    int output_fd = -1;
    int error_fd = -1;
    int inherited_fd = -1;  // stays open in it, under the same number; -1: none
  };
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(Options options);
  // Runs `argv` (argv[0] is a path) with its output in `log_path`, and waits until it has written a
  // byte to the descriptor whose number is appended to argv as the last argument. UNAVAILABLE: it
  // ended before, or took longer than `timeout`; the message has the end of the log.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> StartReady(std::vector<std::string> argv,
                                                                  const std::string& log_path,
                                                                  absl::Duration timeout);
  // Ends it, if Wait() did not see its end: SIGTERM, and SIGKILL if it is still there after five
  // seconds.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  void Kill();
  // Waits for its end, and says how it ended as waitpid() does. Call once.
  int Wait();

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}
  pid_t pid_;
  bool reaped_ = false;
};

// The directory of the running program.
absl::StatusOr<std::string> ProgramDirectory();

}  // namespace kvtier::cli
