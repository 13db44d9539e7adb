#include "tests/fault/access_watch.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tiering/base/status_macros.h"

namespace kvtier::test_support {
namespace {

// NOT_FOUND: the thread has ended, or is about to.
absl::Status SystemError(absl::string_view what, pid_t thread) {
  const auto code = errno == ESRCH ? absl::StatusCode::kNotFound : absl::StatusCode::kInternal;
  return absl::Status(code, absl::StrCat(what, " of thread ", thread, ": ", std::strerror(errno)));
}

absl::Status Ended(pid_t thread) {
  return absl::NotFoundError(absl::StrCat("thread ", thread, " has ended"));
}

#ifdef __x86_64__
// What PTRACE_PEEKUSER and PTRACE_POKEUSER call debug register `number`.
void* DebugRegister(size_t number) {
  return reinterpret_cast<void*>(offsetof(user, u_debugreg) + number * sizeof(uint64_t));
}
constexpr size_t kHits = 6;
constexpr size_t kControl = 7;

// The words that register `kControl` turns on: a bit each below, and above how they are watched.
uint64_t Control(size_t words, AccessWatch::Access access) {
  constexpr uint64_t kEightBytes = 2;
  uint64_t control = 0;
  for (size_t i = 0; i < words; ++i) {
    control |= uint64_t{1} << (2 * i);
    control |= (static_cast<uint64_t>(access) | kEightBytes << 2) << (16 + 4 * i);
  }
  return control;
}

// Waits for the end of a thread that is about to.
void Reap(pid_t thread) {
  int status = 0;
  while (waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status)) {
  }
}
#endif

}  // namespace

absl::StatusOr<uint64_t> AddressIn(pid_t pid, int fd, uint64_t offset) {
  struct stat file {};
  if (fstat(fd, &file) != 0) return SystemError("fstat", pid);
  std::ifstream maps(absl::StrCat("/proc/", pid, "/maps"));
  for (std::string line; std::getline(maps, line);) {
    // "7f0000000000-7f0000001000 rw-s 00000000 00:01 2049 /memfd:name (deleted)"
    std::istringstream words(line);
    std::string range, access, begins, device;
    uint64_t inode = 0;
    words >> range >> access >> begins >> device >> inode;
    if (inode != file.st_ino || !absl::StrContains(access, 'w')) continue;
    const uint64_t begin = std::strtoull(range.c_str(), nullptr, 16);
    const uint64_t end = std::strtoull(range.c_str() + range.find('-') + 1, nullptr, 16);
    const uint64_t first = std::strtoull(begins.c_str(), nullptr, 16);
    if (offset >= first && offset - first < end - begin) return begin + (offset - first);
  }
  return absl::NotFoundError(absl::StrCat("process ", pid, " has no such memory"));
}

#ifdef __x86_64__

absl::StatusOr<std::unique_ptr<AccessWatch>> AccessWatch::Begin(pid_t pid) {
  std::unique_ptr<AccessWatch> watch(new AccessWatch(pid));
  for (const auto& entry :
       std::filesystem::directory_iterator(absl::StrCat("/proc/", pid, "/task"))) {
    pid_t thread = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &thread)) continue;
    if (ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0) {
      if (errno == ESRCH) continue;  // it ended meanwhile
      if (errno == EPERM) return absl::UnimplementedError("ptrace is not permitted");
      return SystemError("PTRACE_SEIZE", thread);
    }
    watch->threads_.push_back(thread);
  }
  return watch;
}

AccessWatch::~AccessWatch() { Kill(); }

absl::Status AccessWatch::Stop(pid_t thread) const {
  if (thread == standing_) return absl::OkStatus();
  if (ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr) != 0)
    return SystemError("PTRACE_INTERRUPT", thread);
  int status = 0;
  if (waitpid(thread, &status, __WALL) != thread) return SystemError("waitpid", thread);
  return WIFSTOPPED(status) ? absl::OkStatus() : Ended(thread);
}

absl::Status AccessWatch::Set(pid_t thread, const std::vector<uint64_t>& words,
                              Access access) const {
  const auto poke = [&](size_t number, uint64_t value) {
    return ptrace(PTRACE_POKEUSER, thread, DebugRegister(number), value) == 0;
  };
  bool set = poke(kControl, 0) && poke(kHits, 0);
  for (size_t i = 0; i < words.size(); ++i) set = set && poke(i, words[i]);
  set = set && poke(kControl, Control(words.size(), access));
  if (set) return absl::OkStatus();
  if (errno == ESRCH) return SystemError("PTRACE_POKEUSER", thread);
  return absl::UnimplementedError(
      absl::StrCat("debug registers cannot be set: ", std::strerror(errno)));
}

absl::Status AccessWatch::Watch(const std::vector<uint64_t>& words, Access access) {
  words_ = words.size();
  const auto watch_in = [&](pid_t thread) -> absl::Status {
    KVTIER_RETURN_IF_ERROR(Stop(thread));
    KVTIER_RETURN_IF_ERROR(Set(thread, words, access));
    return Continue(thread, 0);
  };
  KVTIER_RETURN_IF_ERROR(ForEachThread(watch_in));
  standing_ = 0;
  return absl::OkStatus();
}

absl::Status AccessWatch::Continue(pid_t thread, int signal) {
  if (ptrace(PTRACE_CONT, thread, nullptr, signal) == 0) return absl::OkStatus();
  return SystemError("PTRACE_CONT", thread);
}

absl::Status AccessWatch::ForEachThread(absl::FunctionRef<absl::Status(pid_t)> act) {
  for (auto thread = threads_.begin(); thread != threads_.end();) {
    absl::Status status = act(*thread);
    if (absl::IsNotFound(status) && *thread != pid_) {
      Reap(*thread);
      thread = threads_.erase(thread);
      continue;
    }
    if (!status.ok()) return status;
    ++thread;
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> AccessWatch::Wait(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  std::optional<size_t> used;
  const auto look_at = [&](pid_t thread) -> absl::Status {
    int status = 0;
    if (used.has_value() || waitpid(thread, &status, __WALL | WNOHANG) != thread)
      return absl::OkStatus();
    if (!WIFSTOPPED(status)) return Ended(thread);
    const int signal = WSTOPSIG(status);
    if (signal != SIGTRAP) return Continue(thread, signal);
    errno = 0;
    const auto hits =
        static_cast<uint64_t>(ptrace(PTRACE_PEEKUSER, thread, DebugRegister(kHits), nullptr));
    if (errno != 0) return SystemError("PTRACE_PEEKUSER", thread);
    for (size_t i = 0; i < words_; ++i) {
      if ((hits >> i & 1) == 0) continue;
      standing_ = thread;
      used = i;
      return absl::OkStatus();
    }
    return Continue(thread, 0);
  };
  while (absl::Now() < deadline) {
    KVTIER_RETURN_IF_ERROR(ForEachThread(look_at));
    if (used.has_value()) return *used;
  }
  return absl::DeadlineExceededError(absl::StrCat("process ", pid_, " used none of the words"));
}

void AccessWatch::Kill() {
  if (threads_.empty()) return;
  kill(pid_, SIGKILL);
  // The process is there for its parent once nobody waits for its other threads.
  for (const pid_t thread : threads_) {
    if (thread != pid_) Reap(thread);
  }
  threads_.clear();
}

#else

absl::StatusOr<std::unique_ptr<AccessWatch>> AccessWatch::Begin(pid_t) {
  return absl::UnimplementedError("debug registers are known of x86-64 only");
}
AccessWatch::~AccessWatch() = default;
absl::Status AccessWatch::Watch(const std::vector<uint64_t>&, Access) {
  return absl::UnimplementedError("not on this processor");
}
absl::StatusOr<size_t> AccessWatch::Wait(absl::Duration) {
  return absl::UnimplementedError("not on this processor");
}
void AccessWatch::Kill() {}

#endif

}  // namespace kvtier::test_support
