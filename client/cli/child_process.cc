#include "client/cli/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace kvtier::cli {
namespace {

constexpr int kEndMs = 5000;
constexpr size_t kLogTailBytes = 400;

std::string LogTail(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return std::string(
      absl::StripAsciiWhitespace(text.substr(text.size() - std::min(text.size(), kLogTailBytes))));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ScratchDirectory>> ScratchDirectory::Create() {
  std::error_code error;
  std::string path =
      (std::filesystem::temp_directory_path(error) / "kvtier-scratch-XXXXXX").string();
  if (error || ::mkdtemp(path.data()) == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot make a temporary directory ", path, ": ", std::strerror(errno)));
  }
  std::unique_ptr<ScratchDirectory> directory(new ScratchDirectory);
  directory->path_ = path;
  return directory;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(Options options) {
  // All that allocates comes before the fork.
  std::vector<char*> arguments;
  arguments.reserve(options.argv.size() + 1);
  for (std::string& argument : options.argv) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (options.input_fd >= 0) ::dup2(options.input_fd, STDIN_FILENO);
    if (options.output_fd >= 0) ::dup2(options.output_fd, STDOUT_FILENO);
    if (options.error_fd >= 0) ::dup2(options.error_fd, STDERR_FILENO);
    if (options.inherited_fd >= 0) ::fcntl(options.inherited_fd, F_SETFD, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() == parent) ::execv(options.program.c_str(), arguments.data());
    ::_exit(127);
  }
  if (pid < 0)
    return absl::ResourceExhaustedError(absl::StrCat("cannot fork: ", std::strerror(errno)));
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid));
}

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::StartReady(
    std::vector<std::string> argv, const std::string& log_path, absl::Duration timeout) {
  int ready[2];
  if (::pipe2(ready, O_CLOEXEC) != 0) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot make a pipe: ", std::strerror(errno)));
  }
  const std::string program = argv[0];
  argv.push_back(absl::StrCat(ready[1]));
  const int log = ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  auto child = Start({.program = program,
                      .argv = std::move(argv),
                      .output_fd = log,
                      .error_fd = log,
                      .inherited_fd = ready[1]});
  if (log >= 0) ::close(log);
  ::close(ready[1]);
  pollfd waits{ready[0], POLLIN, 0};
  char byte = 0;
  const bool in_time =
      child.ok() && ::poll(&waits, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) == 1;
  const bool started = in_time && ::read(ready[0], &byte, 1) == 1;
  ::close(ready[0]);
  if (started || !child.ok()) return child;
  return absl::UnavailableError(absl::StrCat(
      program, in_time ? " did not start: " : " is not ready in time: ", LogTail(log_path)));
}

ChildProcess::~ChildProcess() {
  if (reaped_) return;
  ::kill(pid_, SIGTERM);
  const int process = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  pollfd waits{process, POLLIN, 0};
  if (process < 0 || ::poll(&waits, 1, kEndMs) != 1) ::kill(pid_, SIGKILL);
  if (process >= 0) ::close(process);
  Wait();
}

void ChildProcess::Kill() { ::kill(pid_, SIGKILL); }

int ChildProcess::Wait() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  reaped_ = true;
  return status;
}

absl::StatusOr<std::string> ProgramDirectory() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return absl::NotFoundError(absl::StrCat("/proc/self/exe: ", error.message()));
  return program.parent_path().string();
}

}  // namespace kvtier::cli
