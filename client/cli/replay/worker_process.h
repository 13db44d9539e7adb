// A worker of a replay: this program again, in a process of its own.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/child_process.h"
#include "client/cli/replay/request_player.h"

namespace kvtier::replay {

// Not thread-safe. The process dies with the thread that started it, and with this object.
class WorkerProcess {
 public:
  // Runs `argv` with two pipes as standard input and output. Start before gRPC is used: it forks.
  static absl::StatusOr<std::unique_ptr<WorkerProcess>> Start(std::vector<std::string> argv);
  ~WorkerProcess();  // as that of ChildProcess; first its input and output end
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  pid_t pid() const { return process_->pid(); }
  int output_fd() const { return output_fd_; }
  absl::Status Send(const std::string& frame) { return WriteFrame(input_fd_, frame); }
  absl::StatusOr<std::string> Receive() { return ReadFrame(output_fd_); }
  void Kill() { process_->Kill(); }
  // For one whose output has ended: reaps it and says how it ended, "signal 9 (KILL)" or "exit code
  // 1". Call once.
  std::string HowItEnded();

 private:
  WorkerProcess(std::unique_ptr<cli::ChildProcess> process, int input_fd, int output_fd)
      : process_(std::move(process)), input_fd_(input_fd), output_fd_(output_fd) {}

  std::unique_ptr<cli::ChildProcess> process_;
  int input_fd_;
  int output_fd_;
};

struct WorkerOptions {
  std::string socket;
  std::string name;  // for the daemon's status
  PlayerOptions player{};
  // Called once at the start and again before each request is played, with nothing of this client
  // left to do. With it, what the daemon is asked does not go through shared memory, where it would
  // come to know of it later. An error ends the worker.
  std::function<absl::Status()> settle{};
};

// What a worker process does: says hello on the standard output, an empty frame or what is wrong,
// then plays requests from the standard input until that ends.
absl::Status RunWorker(const WorkerOptions& options);

}  // namespace kvtier::replay
