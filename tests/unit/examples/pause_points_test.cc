// Proves that a pause point is announced, waits for its byte, counts what it skips, and ends the
// process when whoever steers it is gone. Pipes stand for standard input and output.

#include "client/examples/pause_points.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

namespace kvtier::examples {
namespace {

class PausePointsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int in[2];
    int out[2];
    ASSERT_EQ(pipe(in), 0);
    ASSERT_EQ(pipe(out), 0);
    in_read_ = in[0];
    in_write_ = in[1];
    out_read_ = out[0];
    out_ = fdopen(out[1], "w");
  }
  void TearDown() override {
    close(in_read_);
    if (in_write_ >= 0) close(in_write_);
    close(out_read_);
    std::fclose(out_);
  }
  std::string Printed() const {
    char text[64];
    const ssize_t got = read(out_read_, text, sizeof(text));
    return std::string(text, got > 0 ? static_cast<size_t>(got) : 0);
  }

  int in_read_ = -1;
  int in_write_ = -1;
  int out_read_ = -1;
  std::FILE* out_ = nullptr;
};

TEST_F(PausePointsTest, PausesAtItsPointAfterTheSkippedOnes) {
  PausePoints pauses(PausePoint::kBeforeCommit, 2, in_read_, out_);
  // Two bytes are there in advance, so that each pause ends at once.
  ASSERT_EQ(write(in_write_, "ab", 2), 2);
  pauses.Reach(PausePoint::kReserved);
  pauses.Reach(PausePoint::kBeforeCommit);
  pauses.Reach(PausePoint::kBeforeCommit);
  pauses.Reach(PausePoint::kBeforeCommit);
  EXPECT_EQ(Printed(), "paused: before_commit\n");
  pauses.Reach(PausePoint::kBeforeCommit);
  EXPECT_EQ(Printed(), "paused: before_commit\n");
}

TEST_F(PausePointsTest, TheDefaultNeverPauses) {
  PausePoints pauses;
  for (const PausePoint point :
       {PausePoint::kReserved, PausePoint::kHalfStored, PausePoint::kBeforeCommit,
        PausePoint::kAfterCommit, PausePoint::kLeased}) {
    EXPECT_FALSE(pauses.Watches(point));
    pauses.Reach(point);
    EXPECT_EQ(ParsePausePoint(PausePointName(point)), point);
  }
  EXPECT_EQ(ParsePausePoint("nowhere"), std::nullopt);
}

TEST_F(PausePointsTest, EndOfInputEndsTheProcess) {
  close(in_write_);
  in_write_ = -1;
  EXPECT_EXIT(PausePoints(PausePoint::kLeased, 0, in_read_, out_).Reach(PausePoint::kLeased),
              ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace kvtier::examples
