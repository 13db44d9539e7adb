#include "bench/child_process.h"

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

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace kvtier::bench {
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
  std::string path = (std::filesystem::temp_directory_path(error) / "kvtier-bench-XXXXXX").string();
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

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(std::vector<std::string> argv,
                                                                  const std::string& log_path,
                                                                  absl::Duration timeout) {
  int ready[2];
  if (::pipe2(ready, O_CLOEXEC) != 0) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot make a pipe: ", std::strerror(errno)));
  }
  argv.push_back(absl::StrCat(ready[1]));
  // All that allocates comes before the fork.
  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (std::string& argument : argv) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    const int log = ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log >= 0) {
      ::dup2(log, STDERR_FILENO);
      ::dup2(log, STDOUT_FILENO);
    }
    ::fcntl(ready[1], F_SETFD, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() == parent) ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  const int fork_error = errno;
  ::close(ready[1]);
  if (pid < 0) {
    ::close(ready[0]);
    return absl::ResourceExhaustedError(absl::StrCat("cannot fork: ", std::strerror(fork_error)));
  }
  std::unique_ptr<ChildProcess> child(new ChildProcess(pid));
  pollfd waits{ready[0], POLLIN, 0};
  char byte = 0;
  const bool in_time = ::poll(&waits, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) == 1;
  const bool started = in_time && ::read(ready[0], &byte, 1) == 1;
  ::close(ready[0]);
  if (started) return child;
  return absl::UnavailableError(absl::StrCat(
      argv[0], in_time ? " did not start: " : " is not ready in time: ", LogTail(log_path)));
}

ChildProcess::~ChildProcess() {
  ::kill(pid_, SIGTERM);
  const int process = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  pollfd waits{process, POLLIN, 0};
  if (process < 0 || ::poll(&waits, 1, kEndMs) != 1) ::kill(pid_, SIGKILL);
  if (process >= 0) ::close(process);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

absl::StatusOr<std::string> ProgramDirectory() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return absl::NotFoundError(absl::StrCat("/proc/self/exe: ", error.message()));
  return program.parent_path().string();
}

}  // namespace kvtier::bench
