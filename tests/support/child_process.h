// A program that a test starts, talks to and ends. It never outlives the test: it is killed and
// reaped by the destructor, and by the kernel when the test itself is killed.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace kvtier::test_support {

// The absolute path of a program that this build made; KVTIER_BIN_DIR names the folder.
std::string ProgramPath(const std::string& name);
// Of the helpers beside the running test.
std::string HelperPath(const std::string& name);

// Not thread-safe; start and destroy it on the same thread, and not on one that ends before it (the
// kernel's guard hangs on the thread).
class ChildProcess {
 public:
  struct Options {
    std::vector<std::string> arguments;  // the first is the program's path
    std::string log_file;                // stderr goes to its end; empty: the test's own stderr
    bool talk = true;     // stdin and stdout are pipes; else /dev/null, and stdout goes with stderr
    int inherit_fd = -1;  // stays open in the child, under the same number
  };
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(const Options& options);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // Readable once the process ended.
  int pidfd() const { return pidfd_; }

  // One line of its output, without the newline. OUT_OF_RANGE: the output ended; DEADLINE_EXCEEDED.
  absl::StatusOr<std::string> ReadLine(absl::Duration timeout);
  // All that is left of its output.
  absl::StatusOr<std::string> ReadAll(absl::Duration timeout);
  absl::Status WriteLine(absl::string_view line);

  void Signal(int signal);
  // How it ended, as waitpid() tells it; it stays known. DEADLINE_EXCEEDED: it runs on.
  absl::StatusOr<int> Wait(absl::Duration timeout);
  // SIGKILL, then waits.
  void Kill();
  bool ended() const { return ended_; }

 private:
  ChildProcess() = default;
  // Appends what can be read to buffered_; false at the end of the output.
  absl::StatusOr<bool> Fill(absl::Time deadline);

  pid_t pid_ = -1;
  int pidfd_ = -1;
  int input_fd_ = -1;
  int output_fd_ = -1;
  std::string buffered_;
  bool ended_ = false;
  int wait_status_ = 0;
};

// Runs a program to its end; `output` gets stdout, `log_file` stderr. Returns the exit status, or
// an error if it was killed by a signal or took longer.
absl::StatusOr<int> RunProgram(const std::vector<std::string>& arguments, absl::Duration timeout,
                               std::string* output = nullptr, const std::string& log_file = "");

// Pids of this process's children, zombies included.
std::vector<pid_t> ChildPids();

}  // namespace kvtier::test_support
