#include "client/cli/replay/worker_process.h"

#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvtier/client.h"

namespace kvtier::replay {

absl::StatusOr<std::unique_ptr<WorkerProcess>> WorkerProcess::Start(std::vector<std::string> argv) {
  int input[2] = {-1, -1};
  int output[2] = {-1, -1};
  if (::pipe2(input, O_CLOEXEC) != 0 || ::pipe2(output, O_CLOEXEC) != 0) {
    const int error = errno;
    for (const int fd : input) {
      if (fd >= 0) ::close(fd);
    }
    return absl::ResourceExhaustedError(absl::StrCat("cannot make a pipe: ", ::strerror(error)));
  }
  auto process = cli::ChildProcess::Start({.program = "/proc/self/exe",
                                           .argv = std::move(argv),
                                           .input_fd = input[0],
                                           .output_fd = output[1]});
  ::close(input[0]);
  ::close(output[1]);
  if (!process.ok()) {
    ::close(input[1]);
    ::close(output[0]);
    return process.status();
  }
  return std::unique_ptr<WorkerProcess>(
      new WorkerProcess(*std::move(process), input[1], output[0]));
}

WorkerProcess::~WorkerProcess() {
  ::close(input_fd_);
  ::close(output_fd_);
}

std::string WorkerProcess::HowItEnded() {
  // Whatever closed its output and lives on is of no use any more.
  process_->Kill();
  const int status = process_->Wait();
  if (WIFEXITED(status)) return absl::StrCat("exit code ", WEXITSTATUS(status));
  const char* name = ::sigabbrev_np(WTERMSIG(status));
  return absl::StrCat("signal ", WTERMSIG(status), name == nullptr ? "" : " (",
                      name == nullptr ? "" : name, name == nullptr ? "" : ")");
}

absl::Status RunWorker(const WorkerOptions& options) {
  ClientOptions client_options{.socket = options.socket, .name = options.name};
  if (options.settle) client_options.transport = Transport::kStream;
  auto client = Client::Connect(client_options);
  // A daemon that is away comes back, perhaps.
  if (absl::IsUnavailable(client.status())) client = Client::Create(client_options);
  absl::Status refused = client.status();
  std::unique_ptr<RequestPlayer> player;
  if (client.ok()) {
    auto created = RequestPlayer::Create(client->get(), options.player);
    refused = created.status();
    if (created.ok()) player = *std::move(created);
  }
  if (refused.ok() && options.settle) refused = options.settle();
  absl::Status status = WriteFrame(STDOUT_FILENO, std::string(refused.message()));
  if (!refused.ok()) return refused;
  while (status.ok()) {
    auto frame = ReadFrame(STDIN_FILENO);
    if (absl::IsUnavailable(frame.status())) return absl::OkStatus();  // there is no more
    if (!frame.ok()) return frame.status();
    auto request = DecodeRequest(*frame);
    if (!request.ok()) return request.status();
    // Now, as a hold of the daemon does not outlast a long wait for the request.
    if (options.settle) status = options.settle();
    if (!status.ok()) return status;
    status = WriteFrame(STDOUT_FILENO, EncodeResult(player->Play(*request)));
  }
  return status;
}

}  // namespace kvtier::replay
