// The inference worker itself, killed at each of its pause points and then the daemon under it,
// again and again: its answers stay those of a worker without a daemon, to the byte, a dead
// worker's leases and reservations come back, and a daemon that starts anew starts empty.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

constexpr size_t kPrompts = 4;

class DecodeKillsTest : public DaemonTest {
 protected:
  // A worker's command line for prompts that begin alike; `json` is where its report goes.
  std::vector<std::string> Arguments(const std::string& json,
                                     const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {ProgramPath("decode_worker"), "--max-tokens", "12",
                                          "--json", json};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::string text = "A prefix that all the prompts of this test have in common. ";
    for (size_t i = 0; i < kPrompts; ++i) {
      absl::StrAppend(&text, "Sentence number ", i,
                      " makes each prompt longer than the one before. ");
      arguments.insert(arguments.end(), {"--prompt", text});
    }
    return arguments;
  }
  // What was generated for each prompt of each round.
  static std::vector<std::string> Generated(const std::string& json) {
    std::ifstream file(json);
    const nlohmann::json report = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
    std::vector<std::string> generated;
    if (!report.is_object()) return generated;
    for (const auto& prompt : report["prompts"]) generated.push_back(prompt["generated"]);
    return generated;
  }
  absl::StatusOr<std::vector<std::string>> Run(const std::vector<std::string>& more) {
    const std::string json = directory() + "/run.json";
    std::string output;
    const absl::StatusOr<int> status =
        RunProgram(Arguments(json, more), 3 * kSoon, &output, directory() + "/worker.log");
    if (!status.ok()) return status.status();
    if (*status != 0) return absl::InternalError(absl::StrCat("exit status ", *status));
    return Generated(json);
  }
};

TEST_F(DecodeKillsTest, WorkerKilledAtEachPointIsStartedAgain) {
  StartDaemon();
  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> expected, Run({"--no-daemon", "--no-reuse"}));
  ASSERT_EQ(expected.size(), kPrompts);
  for (const std::string point :
       {"reserved", "half_stored", "before_commit", "after_commit", "leased"}) {
    SCOPED_TRACE(point);
    ChildProcess::Options options;
    options.arguments = Arguments(directory() + "/victim.json", {"--socket", socket(), "--pause-at",
                                                                 point, "--pause-after", "1"});
    options.log_file = directory() + "/victim.log";
    ASSERT_OK_AND_ASSIGN(const auto victim, ChildProcess::Start(options));
    std::string line;
    while (!absl::StartsWith(line, "paused: ")) {
      ASSERT_OK_AND_ASSIGN(line, victim->ReadLine(kSoon));
    }
    EXPECT_EQ(line, "paused: " + point);
    EXPECT_EQ(daemon().Status().sessions(), 1u);
    victim->Kill();
    EXPECT_TRUE(Await([&] {
      const v1::StatusReply status = daemon().Status();
      return status.sessions() == 0 && status.leases() == 0 && status.reservations() == 0;
    })) << daemon().Status().ShortDebugString();
    ASSERT_OK_AND_ASSIGN(const std::vector<std::string> generated, Run({"--socket", socket()}));
    EXPECT_EQ(generated, expected);
    EXPECT_GT(daemon().Status().chunks(), 0u);
  }
}

TEST_F(DecodeKillsTest, WorkerGoesOnWhileDaemonsDie) {
  constexpr size_t kKills = 12;
  StartDaemon();
  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> expected, Run({"--no-daemon", "--no-reuse"}));
  const uint64_t budget = 12u << 20;

  const std::string json = directory() + "/run.json";
  ChildProcess::Options options;
  options.arguments = Arguments(json, {"--socket", socket(), "--rounds", absl::StrCat(kKills),
                                       "--pause-at", "before_commit", "--pause-after", "0"});
  options.log_file = directory() + "/worker.log";
  ASSERT_OK_AND_ASSIGN(const auto worker, ChildProcess::Start(options));
  size_t kills = 0;
  size_t prompts = 0;
  uint64_t epoch = daemon().Status().daemon_epoch();
  uint64_t worker_bytes = 0;
  while (prompts < kKills * kPrompts) {
    ASSERT_OK_AND_ASSIGN(const std::string line, worker->ReadLine(2 * kSoon));
    if (!absl::StartsWith(line, "paused: ")) {
      ++prompts;
      continue;
    }
    // All is stored and nothing committed: the moment at which most can be lost.
    if (kills < kKills) {
      EXPECT_LE(daemon().Facts().memfd_bytes, budget);
      daemon().Kill();
      daemon_.reset();
      ASSERT_TRUE(std::filesystem::exists(socket())) << "a killed daemon leaves its socket";
      ++kills;
      // The worker stands still: what it holds does not grow with daemons that die.
      const uint64_t bytes = FactsOf(worker->pid()).anonymous_bytes;
      if (kills == 2) worker_bytes = bytes;
      EXPECT_GT(bytes, 0u);
      if (kills > 2) {
        EXPECT_LE(bytes, worker_bytes + (64u << 20));
      }
      // Every other time the worker meets no daemon at all for the rest of this prompt.
      if (kills % 2 == 0) {
        ASSERT_THAT(worker->WriteLine("go"), IsOk());
        for (std::string next; !absl::StrContains(next, " generated");) {
          ASSERT_OK_AND_ASSIGN(next, worker->ReadLine(2 * kSoon));
          if (absl::StartsWith(next, "paused: ")) {
            ASSERT_THAT(worker->WriteLine("go"), IsOk());
          }
        }
        ++prompts;
      }
      StartDaemon();
      // The worker stands at the point, or attaches again: nothing of before is there.
      EXPECT_EQ(daemon().Status().chunks(), 0u);
      EXPECT_EQ(daemon().Status().leases(), 0u);
      EXPECT_NE(daemon().Status().daemon_epoch(), epoch);
      epoch = daemon().Status().daemon_epoch();
      EXPECT_TRUE(Await([&] { return daemon().Status().sessions() == 1; })) << "not attached again";
      if (kills % 2 == 0) continue;
    }
    ASSERT_THAT(worker->WriteLine("go"), IsOk());
  }
  EXPECT_EQ(kills, kKills);
  ASSERT_OK_AND_ASSIGN(const int status, worker->Wait(kSoon));
  EXPECT_EQ(status, 0);
  const std::vector<std::string> generated = Generated(json);
  ASSERT_EQ(generated.size(), kKills * kPrompts);
  for (size_t i = 0; i < generated.size(); ++i)
    EXPECT_EQ(generated[i], expected[i % kPrompts]) << "prompt " << i;
  EXPECT_GT(daemon().Status().chunks(), 0u);
}

}  // namespace
}  // namespace kvtier::test_support
