// A worker of a replay: this program again, in a process of its own.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/replay/request_player.h"

namespace kvtier::replay {

// Not thread-safe. The process dies with the thread that started it, and with this object.
class WorkerProcess {
 public:
  // Runs `argv` with two pipes as standard input and output. Start before gRPC is used: it forks.
  static absl::StatusOr<std::unique_ptr<WorkerProcess>> Start(std::vector<std::string> argv);
  // SIGTERM, and SIGKILL if it is still there after five seconds.
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  pid_t pid() const { return pid_; }
  int output_fd() const { return output_fd_; }
  absl::Status Send(const std::string& frame) { return WriteFrame(input_fd_, frame); }
  absl::StatusOr<std::string> Receive() { return ReadFrame(output_fd_); }
  void Kill();
  // For one whose output has ended: reaps it and says how it ended, "signal 9 (KILL)" or "exit code
  // 1". Call once.
  std::string HowItEnded();

 private:
  WorkerProcess(pid_t pid, int input_fd, int output_fd)
      : pid_(pid), input_fd_(input_fd), output_fd_(output_fd) {}

  pid_t pid_;
  int input_fd_;
  int output_fd_;
  bool reaped_ = false;
};

struct WorkerOptions {
  std::string socket;
  std::string name;  // for the daemon's status
  PlayerOptions player{};
};

// What a worker process does: says hello on the standard output, an empty frame or what is wrong,
// then plays requests from the standard input until that ends.
absl::Status RunWorker(const WorkerOptions& options);

}  // namespace kvtier::replay
