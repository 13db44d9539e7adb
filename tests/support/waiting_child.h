// A forked child that has what its parent had, and does nothing.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace kvtier::test_support {

// Lives until End, or with the object.
class WaitingChild {
 public:
  WaitingChild() {
    EXPECT_EQ(pipe(ends_), 0);
    child_ = fork();
    EXPECT_GE(child_, 0);
    if (child_ == 0) {
      close(ends_[1]);
      char byte;
      _exit(read(ends_[0], &byte, 1) == 0 ? 0 : 1);  // until the other end is closed
    }
    close(ends_[0]);
  }
  ~WaitingChild() { End(); }
  WaitingChild(const WaitingChild&) = delete;
  WaitingChild& operator=(const WaitingChild&) = delete;

  // It has ended when this returns.
  void End() {
    if (child_ <= 0) return;
    close(ends_[1]);
    int status = 0;
    EXPECT_EQ(waitpid(child_, &status, 0), child_);
    EXPECT_EQ(status, 0);
    child_ = 0;
  }

 private:
  int ends_[2] = {-1, -1};
  pid_t child_ = 0;
};

}  // namespace kvtier::test_support
