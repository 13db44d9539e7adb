// Proves that a watched process stops at a word that it writes although threads of it, which are
// watched as well, have ended: before the watch is told the word, or while it waits.
#include "tests/fault/access_watch.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

// At the same address in a child.
std::atomic<uint64_t> word{0};

class Pipe {
 public:
  Pipe() { EXPECT_EQ(::pipe(ends_), 0); }
  ~Pipe() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  bool Take() const {
    char byte;
    return ::read(ends_[0], &byte, 1) == 1;
  }
  bool Give() const { return ::write(ends_[1], "", 1) == 1; }

 private:
  int ends_[2] = {-1, -1};
};

// Ends with its first byte.
struct Passing {
  explicit Passing(const Pipe& pipe) : end(pipe) {}
  const Pipe& end;
  std::atomic<pid_t> id{0};
  std::thread thread{[this] {
    id.store(::gettid());
    end.Take();
  }};
};

enum class Left : uint8_t { kToWaitFor, kToNobody };

// In the thread's own process, until it has ended and is there, or not, for who traces it.
void Join(Passing& passing, Left left) {
  passing.thread.join();
  const std::string path = absl::StrCat("/proc/self/task/", passing.id.load(), "/stat");
  for (;;) {
    std::ifstream file(path);
    std::string text;
    std::getline(file, text);
    if (text.empty()) return;  // it is gone altogether
    const std::string_view state = std::string_view(text).substr(text.rfind(')') + 2, 1);
    if (left == Left::kToWaitFor && state == "Z") return;
    std::this_thread::yield();
  }
}

TEST(AccessWatchTest, ThreadsThatEndAreNotMissed) {
  const Pipe ready, first_ends, first_ended, second_ends, done;
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Passing first(first_ends), second(second_ends);
    ready.Give();
    Join(first, Left::kToWaitFor);
    first_ended.Give();
    Join(second, Left::kToNobody);
    word.store(1);
    done.Take();
    _exit(0);
  }
  ASSERT_TRUE(ready.Take());
  {
    const auto begun = AccessWatch::Begin(child);
    ASSERT_TRUE(begun.ok() || absl::IsUnimplemented(begun.status())) << begun.status();
    if (!begun.ok()) {
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
      GTEST_SKIP() << begun.status().message();
    }
    AccessWatch& watch = **begun;
    ASSERT_TRUE(first_ends.Give() && first_ended.Take());
    const absl::Status watched =
        watch.Watch({reinterpret_cast<uint64_t>(&word)}, AccessWatch::Access::kWrite);
    if (absl::IsUnimplemented(watched)) GTEST_SKIP() << watched.message();
    ASSERT_THAT(watched, IsOk());
    ASSERT_TRUE(second_ends.Give());
    ASSERT_OK_AND_ASSIGN(const size_t used, watch.Wait(absl::Seconds(60)));
    EXPECT_EQ(used, 0u);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
}

}  // namespace
}  // namespace kvtier::test_support
