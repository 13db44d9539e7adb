#include "tests/support/child_process.h"

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
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tiering/base/check.h"

namespace kvtier::test_support {
namespace {

absl::Status SystemError(absl::string_view what) {
  return absl::InternalError(absl::StrCat(what, ": ", std::strerror(errno)));
}

int MillisecondsUntil(absl::Time deadline) {
  const absl::Duration left = absl::Ceil(deadline - absl::Now(), absl::Milliseconds(1));
  if (left <= absl::ZeroDuration()) return 0;
  return static_cast<int>(std::min<int64_t>(absl::ToInt64Milliseconds(left), 3'600'000));
}

// Of pipe2(); closes what is left of it.
struct Pipe {
  ~Pipe() {
    for (const int fd : ends) {
      if (fd >= 0) close(fd);
    }
  }
  absl::Status Open() {
    return pipe2(ends, O_CLOEXEC) == 0 ? absl::OkStatus() : SystemError("pipe2");
  }
  int Take(int end) { return std::exchange(ends[end], -1); }
  int ends[2] = {-1, -1};
};

// In the child: only calls that are safe after a fork of a process with threads.
[[noreturn]] void BecomeProgram(char* const* arguments, int input, int output, int error,
                                int inherit_fd, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(126);  // the test died before the guard was there
  dup2(input, STDIN_FILENO);
  dup2(output >= 0 ? output : error, STDOUT_FILENO);
  dup2(error, STDERR_FILENO);
  if (inherit_fd >= 0) fcntl(inherit_fd, F_SETFD, 0);
  execv(arguments[0], arguments);
  _exit(127);
}

}  // namespace

std::string ProgramPath(const std::string& name) {
  const char* const folder = std::getenv("KVTIER_BIN_DIR");
  KVTIER_CHECK(folder != nullptr);  // CTest sets it
  return absl::StrCat(folder, "/", name);
}

std::string HelperPath(const std::string& name) {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / name).string();
}

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(const Options& options) {
  Pipe in;
  Pipe out;
  if (options.talk) {
    for (Pipe* pipe : {&in, &out}) {
      if (absl::Status opened = pipe->Open(); !opened.ok()) return opened;
    }
  } else {
    in.ends[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
  }
  Pipe error;
  if (!options.log_file.empty()) {
    error.ends[1] = open(options.log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (error.ends[1] < 0) return SystemError(options.log_file);
  }
  std::vector<char*> arguments;
  for (const std::string& argument : options.arguments)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  std::unique_ptr<ChildProcess> child(new ChildProcess);
  const pid_t parent = getpid();
  child->pid_ = fork();
  if (child->pid_ < 0) return SystemError("fork");
  if (child->pid_ == 0) {
    BecomeProgram(arguments.data(), in.ends[0], out.ends[1],
                  error.ends[1] >= 0 ? error.ends[1] : STDERR_FILENO, options.inherit_fd, parent);
  }
  child->pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, child->pid_, 0));
  if (child->pidfd_ < 0) return SystemError("pidfd_open");
  child->input_fd_ = in.Take(1);
  child->output_fd_ = out.Take(0);
  return child;
}

ChildProcess::~ChildProcess() {
  Kill();
  for (const int fd : {pidfd_, input_fd_, output_fd_}) {
    if (fd >= 0) close(fd);
  }
}

absl::StatusOr<bool> ChildProcess::Fill(absl::Time deadline) {
  pollfd waits{.fd = output_fd_, .events = POLLIN, .revents = 0};
  const int ready = poll(&waits, 1, MillisecondsUntil(deadline));
  if (ready < 0 && errno == EINTR) return true;
  if (ready < 0) return SystemError("poll");
  if (ready == 0) {
    return absl::DeadlineExceededError(
        absl::StrCat("process ", pid_, " printed no line in time; so far: ", buffered_));
  }
  char bytes[4096];
  const ssize_t got = read(output_fd_, bytes, sizeof bytes);
  if (got < 0) return SystemError("read");
  buffered_.append(bytes, static_cast<size_t>(got));
  return got > 0;
}

absl::StatusOr<std::string> ChildProcess::ReadLine(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    if (const size_t end = buffered_.find('\n'); end != std::string::npos) {
      std::string line = buffered_.substr(0, end);
      buffered_.erase(0, end + 1);
      return line;
    }
    absl::StatusOr<bool> more = Fill(deadline);
    if (!more.ok()) return more.status();
    if (!*more) {
      return absl::OutOfRangeError(
          absl::StrCat("process ", pid_, " ended its output; left: ", buffered_));
    }
  }
}

absl::StatusOr<std::string> ChildProcess::ReadAll(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    absl::StatusOr<bool> more = Fill(deadline);
    if (!more.ok()) return more.status();
    if (!*more) return std::exchange(buffered_, {});
  }
}

absl::Status ChildProcess::WriteLine(absl::string_view line) {
  const std::string text = absl::StrCat(line, "\n");
  // A process that died must not end the test with SIGPIPE.
  signal(SIGPIPE, SIG_IGN);
  if (write(input_fd_, text.data(), text.size()) == static_cast<ssize_t>(text.size()))
    return absl::OkStatus();
  return SystemError(absl::StrCat("write to process ", pid_));
}

void ChildProcess::Signal(int signal) {
  if (!ended_) syscall(SYS_pidfd_send_signal, pidfd_, signal, nullptr, 0);
}

absl::StatusOr<int> ChildProcess::Wait(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!ended_) {
    pollfd waits{.fd = pidfd_, .events = POLLIN, .revents = 0};
    const int ready = poll(&waits, 1, MillisecondsUntil(deadline));
    if (ready == 0) {
      return absl::DeadlineExceededError(
          absl::StrCat("process ", pid_, " has not ended within ", absl::FormatDuration(timeout)));
    }
    if (ready > 0) {
      if (waitpid(pid_, &wait_status_, 0) != pid_) return SystemError("waitpid");
      ended_ = true;
    }
  }
  return wait_status_;
}

void ChildProcess::Kill() {
  if (pid_ <= 0 || ended_) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, &wait_status_, 0);
  ended_ = true;
}

absl::StatusOr<int> RunProgram(const std::vector<std::string>& arguments, absl::Duration timeout,
                               std::string* output, const std::string& log_file) {
  absl::StatusOr<std::unique_ptr<ChildProcess>> child =
      ChildProcess::Start({.arguments = arguments, .log_file = log_file});
  if (!child.ok()) return child.status();
  const absl::Time deadline = absl::Now() + timeout;
  absl::StatusOr<std::string> text = (*child)->ReadAll(timeout);
  if (!text.ok()) return text.status();
  if (output != nullptr) *output = *std::move(text);
  absl::StatusOr<int> status = (*child)->Wait(deadline - absl::Now());
  if (!status.ok()) return status;
  if (WIFEXITED(*status)) return WEXITSTATUS(*status);
  return absl::InternalError(
      absl::StrCat(arguments[0], " was ended by signal ", WTERMSIG(*status)));
}

std::vector<pid_t> ChildPids() {
  std::vector<pid_t> children;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    std::ifstream file(entry.path() / "stat");
    std::string text;
    std::getline(file, text, '\0');  // an iterator would throw where the process ends meanwhile
    const size_t name_end = text.rfind(')');
    if (name_end == std::string::npos) continue;  // it ended meanwhile
    // ") S PPID": the name before may hold anything.
    pid_t parent = 0;
    const std::string rest = text.substr(name_end + 4);
    if (absl::SimpleAtoi(rest.substr(0, rest.find(' ')), &parent) && parent == getpid())
      children.push_back(pid);
  }
  return children;
}

}  // namespace kvtier::test_support
