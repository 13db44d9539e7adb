// Proves that a replay ends when its time is up, whenever in its rounds that is.
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <vector>

#include "client/cli/replay/conductor.h"
#include "client/cli/replay/play_message.h"
#include "tests/support/status_matchers.h"

namespace kvtier::replay {
namespace {

// Workers are this program again, called so.
constexpr std::string_view kWorkerName = "replay-conductor-test-worker";

// Says hello, and answers every request.
int Work() {
  if (!WriteFrame(STDOUT_FILENO, "").ok()) return 1;
  PlayCounts counts;
  counts.requests = 1;
  while (ReadFrame(STDIN_FILENO).ok()) {
    if (!WriteFrame(STDOUT_FILENO, EncodeResult({.counts = counts})).ok()) return 1;
  }
  return 0;
}

// What is played in ten seconds, by a clock that stands still until it was read so many times and
// then goes on by far more than that at every reading.
absl::StatusOr<ReplayReport> PlayUntilRead(int times) {
  sim::Trace trace;
  trace.block_tokens = 16;
  trace.requests.resize(2);
  const std::vector<sim::Play> schedule = {{.request = 0}, {.request = 1}};
  ConductorOptions options;
  options.worker_command = [](uint32_t) {
    return std::vector<std::string>{std::string(kWorkerName)};
  };
  options.duration = absl::Seconds(10);
  options.now_s = [&] { return times-- > 0 ? 0.0 : -1000.0 * times; };
  return Conduct(trace, schedule, options);
}

TEST(Conductor, EndsAtWhateverMomentTheTimeIsUp) {
  for (int times = 1; times <= 30; ++times) {
    const auto report = PlayUntilRead(times);
    ASSERT_THAT(report, test_support::IsOk()) << times;
    EXPECT_LE(report->counts.requests, 30u);
    EXPECT_FALSE(report->interrupted);
    for (const WorkerFailure& failure : report->failures) ADD_FAILURE() << failure.reason;
  }
}

}  // namespace
}  // namespace kvtier::replay

int main(int argc, char** argv) {
  if (argv[0] == kvtier::replay::kWorkerName) return kvtier::replay::Work();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
