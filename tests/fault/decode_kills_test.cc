// The inference worker itself, killed at each of its pause points and then the daemon under it,
// again and again: its answers stay those of a worker without a daemon, to the byte, a dead
// worker's leases and reservations come back, and a daemon that starts anew starts empty.
#include <algorithm>
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
constexpr size_t kChunkTokens = 16;  // decode_worker's default; a byte is a token
constexpr absl::string_view kShared = "A prefix that all the prompts of this test have in common. ";

class DecodeKillsTest : public DaemonTest {
 protected:
  // A worker's command line for prompts that begin alike, all with kShared and then `own`; `json`
  // is where its report goes.
  std::vector<std::string> Arguments(const std::string& json, const std::string& own,
                                     const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {ProgramPath("decode_worker"), "--max-tokens", "12",
                                          "--json", json};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::string text = absl::StrCat(kShared, own);
    for (size_t i = 0; i < kPrompts; ++i) {
      absl::StrAppend(&text, "Sentence number ", i,
                      " makes each prompt longer than the one before. ");
      arguments.insert(arguments.end(), {"--prompt", text});
    }
    return arguments;
  }
  static nlohmann::json Report(const std::string& json) {
    std::ifstream file(json);
    return nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  }
  // What was generated for each prompt of each round.
  static std::vector<std::string> Generated(const nlohmann::json& report) {
    std::vector<std::string> generated;
    if (!report.is_object()) return generated;
    for (const auto& prompt : report["prompts"]) generated.push_back(prompt["generated"]);
    return generated;
  }
  absl::StatusOr<nlohmann::json> Run(const std::string& own, const std::vector<std::string>& more) {
    const std::string json = directory() + "/run.json";
    std::string output;
    const absl::StatusOr<int> status =
        RunProgram(Arguments(json, own, more), 3 * kSoon, &output, directory() + "/worker.log");
    if (!status.ok()) return status.status();
    if (*status != 0) return absl::InternalError(absl::StrCat("exit status ", *status));
    return Report(json);
  }
  // A byte lets the worker go on from one point: an empty line is one byte.
  static absl::Status GoOn(ChildProcess& worker) { return worker.WriteLine(""); }
  uint64_t CommittedChunks() { return daemon().Status().counters().at("committed_chunks"); }
};

TEST_F(DecodeKillsTest, WorkerKilledAtEachPointIsStartedAgain) {
  // The victims' prompts share this many chunks, which are there before the first of them.
  constexpr size_t kSharedChunks = kShared.size() / kChunkTokens;
  StartDaemon(SmallConfig("listen: {http: '127.0.0.1:0'}\n"));
  ASSERT_THAT(Run("", {"--socket", socket()}), IsOk());
  // The transport, and how often the point is passed before: there are many sections to a commit.
  const struct {
    const char* transport;
    const char* point;
    const char* passed;
  } kDeaths[] = {
      {"stream", "reserved", "1"},
      {"stream", "half_stored", "1"},
      {"stream", "before_commit", "1"},
      {"shared_memory", "reserved", "1"},
      {"shared_memory", "reserved_half_written", "1"},
      {"shared_memory", "before_commit", "1"},
      {"shared_memory", "after_commit", "1"},
      {"shared_memory", "leased", "1"},
      {"shared_memory", "entered", "12"},
      {"shared_memory", "inside_section", "12"},
  };
  for (const auto& death : kDeaths) {
    const std::string point = death.point;
    SCOPED_TRACE(absl::StrCat(death.transport, ", ", point));
    // Different from the first byte on, and long enough for several commits.
    std::string own;
    for (int i = 0; i < 24; ++i)
      absl::StrAppend(&own, &death - kDeaths, " ", death.transport, " ", point, " ", i, ", ");
    ASSERT_OK_AND_ASSIGN(const nlohmann::json expected, Run(own, {"--no-daemon", "--no-reuse"}));
    ASSERT_EQ(Generated(expected).size(), kPrompts);
    const uint64_t committed_before = CommittedChunks();
    ChildProcess::Options options;
    options.arguments = Arguments(directory() + "/victim.json", own,
                                  {"--socket", socket(), "--transport", death.transport,
                                   "--pause-at", point, "--pause-after", death.passed});
    options.log_file = directory() + "/victim.log";
    ASSERT_OK_AND_ASSIGN(const auto victim, ChildProcess::Start(options));
    std::string line;
    while (!absl::StartsWith(line, "paused: ")) {
      ASSERT_OK_AND_ASSIGN(line, victim->ReadLine(kSoon));
    }
    EXPECT_EQ(line, "paused: " + point);
    EXPECT_EQ(daemon().Status().sessions(), 1u);
    // It is where it says, and has more to give back than its session.
    if (point == "entered" || point == "inside_section") {
      EXPECT_TRUE(Await(
          [&] { return daemon().Metric("kvtier_shared_sections{tenant=\"default\"}") == 1; }));
    }
    const v1::StatusReply held = daemon().Status();
    EXPECT_TRUE(point == "after_commit" || held.leases() + held.reservations() > 0)
        << held.ShortDebugString();
    victim->Kill();
    EXPECT_TRUE(Await([&] {
      const v1::StatusReply status = daemon().Status();
      return status.sessions() == 0 && status.leases() == 0 && status.reservations() == 0 &&
             daemon().Metric("kvtier_shared_clients{tenant=\"default\"}") == 0 &&
             daemon().Metric("kvtier_shared_sections{tenant=\"default\"}") == 0;
    })) << daemon().Status().ShortDebugString();
    // Its own part of the first prompt at least, and maybe of the answer.
    const uint64_t committed = CommittedChunks() - committed_before;
    EXPECT_GT(committed, 0u);
    ASSERT_OK_AND_ASSIGN(const nlohmann::json report, Run(own, {"--socket", socket()}));
    EXPECT_EQ(Generated(report), Generated(expected));
    // What the dead worker committed is used, to the last chunk of the prompt.
    const auto& first = report["prompts"][0];
    const size_t prompt_chunks = (first["prompt_tokens"].get<size_t>() - 1) / kChunkTokens;
    EXPECT_EQ(first["chunks_reused"], std::min(kSharedChunks + committed, prompt_chunks));
    EXPECT_GT(first["chunks_reused"], kSharedChunks);
  }
}

// Compares what daemon and worker hold each time before a daemon is killed. The worker maps what
// the daemon maps; segments of dead daemons that it still mapped would count as well.
class MemoryWatch {
 public:
  void Note(const ProcessFacts& daemon, const ProcessFacts& worker) {
    const uint64_t memfd_bytes = std::max(daemon.memfd_bytes, worker.memfd_bytes);
    const uint64_t bytes = memfd_bytes + daemon.anonymous_bytes + worker.anonymous_bytes;
    EXPECT_LE(memfd_bytes, kBudget);
    EXPECT_LE(worker.memfd_bytes, daemon.memfd_bytes) << "it maps memory of a daemon that is gone";
    if (!kSanitized) {
      EXPECT_LE(bytes, kBudget + kAllowance);
    }
    ++notes_;
    if (notes_ <= kWarmUp) warm_ = worker;
    // It stands at the same point each time: nothing adds up with the daemons that die.
    EXPECT_LE(worker.anonymous_bytes, warm_.anonymous_bytes + kGrowthMax) << "at kill " << notes_;
    EXPECT_LE(worker.open_files, warm_.open_files + 4) << "at kill " << notes_;
    most_ = std::max(most_, bytes);
  }
  uint64_t most() const { return most_; }

 private:
  static constexpr int kWarmUp = 2;
  static constexpr uint64_t kBudget = 12u << 20;  // both pools of SmallConfig()
  // The daemon's tables, the worker's weights and activations, and gRPC in both: 17 MiB when this
  // was written.
  static constexpr uint64_t kAllowance = 22u << 20;
  // A sanitizer's own memory grows: it keeps freed memory for a while.
  static constexpr uint64_t kGrowthMax = (kSanitized ? 64u : 4u) << 20;

  int notes_ = 0;
  ProcessFacts warm_;
  uint64_t most_ = 0;
};

TEST_F(DecodeKillsTest, WorkerGoesOnWhileDaemonsDie) {
  constexpr size_t kKills = 12;
  StartDaemon();
  ASSERT_OK_AND_ASSIGN(const nlohmann::json alone, Run("", {"--no-daemon", "--no-reuse"}));
  const std::vector<std::string> expected = Generated(alone);
  ASSERT_EQ(expected.size(), kPrompts);

  const std::string json = directory() + "/run.json";
  ChildProcess::Options options;
  options.arguments = Arguments(json, "",
                                {"--socket", socket(), "--rounds", absl::StrCat(kKills),
                                 "--pause-at", "before_commit", "--pause-after", "0"});
  options.log_file = directory() + "/worker.log";
  ASSERT_OK_AND_ASSIGN(const auto worker, ChildProcess::Start(options));
  size_t kills = 0;
  size_t prompts = 0;
  uint64_t epoch = daemon().Status().daemon_epoch();
  MemoryWatch memory;
  while (prompts < kKills * kPrompts) {
    ASSERT_OK_AND_ASSIGN(const std::string line, worker->ReadLine(2 * kSoon));
    if (!absl::StartsWith(line, "paused: ")) {
      ++prompts;
      continue;
    }
    // All is stored and nothing committed: the moment at which most can be lost.
    if (kills < kKills) {
      memory.Note(daemon().Facts(), FactsOf(worker->pid()));
      daemon().Kill();
      daemon_.reset();
      ASSERT_TRUE(std::filesystem::exists(socket())) << "a killed daemon leaves its socket";
      ++kills;
      // Every other time the worker meets no daemon at all for the rest of this prompt.
      if (kills % 2 == 0) {
        ASSERT_THAT(GoOn(*worker), IsOk());
        for (std::string next; !absl::StrContains(next, " generated");) {
          ASSERT_OK_AND_ASSIGN(next, worker->ReadLine(2 * kSoon));
          if (absl::StartsWith(next, "paused: ")) {
            ASSERT_THAT(GoOn(*worker), IsOk());
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
    ASSERT_THAT(GoOn(*worker), IsOk());
  }
  EXPECT_EQ(kills, kKills);
  std::cout << "daemon and worker held at most " << (memory.most() >> 20) << " MiB\n";
  ASSERT_OK_AND_ASSIGN(const int status, worker->Wait(kSoon));
  EXPECT_EQ(status, 0);
  const std::vector<std::string> generated = Generated(Report(json));
  ASSERT_EQ(generated.size(), kKills * kPrompts);
  for (size_t i = 0; i < generated.size(); ++i)
    EXPECT_EQ(generated[i], expected[i % kPrompts]) << "prompt " << i;
  EXPECT_GT(daemon().Status().chunks(), 0u);
}

}  // namespace
}  // namespace kvtier::test_support
