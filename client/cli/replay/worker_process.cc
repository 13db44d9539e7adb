#include "client/cli/replay/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "kvtier/client.h"

namespace kvtier::replay {
namespace {

constexpr int kEndMs = 5000;

}  // namespace

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
  // All that allocates comes before the fork.
  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (std::string& argument : argv) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(input[0], STDIN_FILENO);
    ::dup2(output[1], STDOUT_FILENO);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() == parent) ::execv("/proc/self/exe", arguments.data());
    ::_exit(127);
  }
  const int fork_error = errno;
  ::close(input[0]);
  ::close(output[1]);
  if (pid < 0) {
    ::close(input[1]);
    ::close(output[0]);
    return absl::ResourceExhaustedError(absl::StrCat("cannot fork: ", ::strerror(fork_error)));
  }
  return std::unique_ptr<WorkerProcess>(new WorkerProcess(pid, input[1], output[0]));
}

WorkerProcess::~WorkerProcess() {
  ::close(input_fd_);
  ::close(output_fd_);
  if (reaped_) return;
  ::kill(pid_, SIGTERM);
  const int process = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  pollfd waits{process, POLLIN, 0};
  if (process < 0 || ::poll(&waits, 1, kEndMs) != 1) ::kill(pid_, SIGKILL);
  if (process >= 0) ::close(process);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void WorkerProcess::Kill() { ::kill(pid_, SIGKILL); }

std::string WorkerProcess::HowItEnded() {
  // Whatever closed its output and lives on is of no use any more.
  ::kill(pid_, SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  reaped_ = true;
  if (WIFEXITED(status)) return absl::StrCat("exit code ", WEXITSTATUS(status));
  const char* name = ::sigabbrev_np(WTERMSIG(status));
  return absl::StrCat("signal ", WTERMSIG(status), name == nullptr ? "" : " (",
                      name == nullptr ? "" : name, name == nullptr ? "" : ")");
}

absl::Status RunWorker(const WorkerOptions& options) {
  ClientOptions client_options{.socket = options.socket, .name = options.name};
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
  absl::Status status = WriteFrame(STDOUT_FILENO, std::string(refused.message()));
  if (!refused.ok()) return refused;
  while (status.ok()) {
    auto frame = ReadFrame(STDIN_FILENO);
    if (absl::IsUnavailable(frame.status())) return absl::OkStatus();  // there is no more
    if (!frame.ok()) return frame.status();
    auto request = DecodeRequest(*frame);
    if (!request.ok()) return request.status();
    status = WriteFrame(STDOUT_FILENO, EncodeResult(player->Play(*request)));
  }
  return status;
}

}  // namespace kvtier::replay
