// Random sequences of operations on an engine with a handful of slots, beside a naive model of it:
// every answer, every event, every byte that can be read, and the limits, after each operation.
// Worlds are small, so that eviction, exhaustion, failed moves, partial commits, lost data and
// expiry happen all the time; that they did is checked at the end.
//
// KVTIER_TEST_SEED=n runs the sequence of seed n alone; KVTIER_TEST_RUNS=n changes how many are
// run.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/support/block_ops.h"
#include "tests/support/sanitized.h"

namespace kvtier::test_support {
namespace {

// Instrumented, a run takes some ten times as long; there it looks for other faults.
constexpr uint64_t kRuns = kSanitized ? 250 : 3000;
// How often each outcome has to be seen.
constexpr uint64_t kSeenMin = kRuns / 250;
constexpr size_t kOpsPerRun = 220;

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  uint64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

// A broken invariant stops the process; the seed is then the last line.
char g_running[128];
extern "C" void PrintSeed(int) {
  std::fputs(g_running, stderr);
  std::signal(SIGABRT, SIG_DFL);
  std::abort();
}

OpWorldOptions OptionsOf(uint64_t seed) {
  OpWorldOptions options;
  options.seed = seed;
  options.copy_seed = seed ^ 0xc0;
  switch (seed % 3) {
    case 0:
      options.policy = PolicyChoice::kLru;
      break;
    case 1:
      options.policy = PolicyChoice::kStaticSplit;
      break;
    default:
      options.policy = PolicyChoice::kShuffle;
      break;
  }
  return options;
}

std::vector<std::unique_ptr<BlockOp>> OpsOf(uint64_t seed) {
  Choices choices(seed * 3 + 7);
  return DrawOps(choices, kOpsPerRun);
}

// Leaves out what is not needed for a failure: first the end, then one operation at a time, until
// none is left that can go.
std::string Shrunk(const OpWorldOptions& options, std::vector<std::unique_ptr<BlockOp>> ops,
                   size_t performed) {
  ops.resize(performed);
  for (size_t before = ops.size() + 1; ops.size() < before;) {
    before = ops.size();
    for (size_t i = ops.size(); i-- > 0;) {
      std::unique_ptr<BlockOp> left_out = std::move(ops[i]);
      ops.erase(ops.begin() + static_cast<std::ptrdiff_t>(i));
      OpWorld world(options);
      RunOps(world, ops);
      if (!world.failed())
        ops.insert(ops.begin() + static_cast<std::ptrdiff_t>(i), std::move(left_out));
    }
  }
  OpWorld world(options);
  RunOps(world, ops);
  std::string text = absl::StrCat(world.failure(), "\noperations that suffice:\n");
  for (const auto& op : ops) absl::StrAppend(&text, "  ", op->ToString(), "\n");
  return text;
}

TEST(EngineProperty, EveryAnswerIsWhatTheModelSays) {
  const uint64_t only = FromEnvironment("KVTIER_TEST_SEED", 0);
  const uint64_t runs = only != 0 ? 1 : FromEnvironment("KVTIER_TEST_RUNS", kRuns);
  std::signal(SIGABRT, PrintSeed);
  std::map<std::string, uint64_t> seen;
  for (uint64_t run = 0; run < runs; ++run) {
    const uint64_t seed = only != 0 ? only : run + 1;
    std::snprintf(g_running, sizeof(g_running), "while running KVTIER_TEST_SEED=%llu\n",
                  static_cast<unsigned long long>(seed));
    const OpWorldOptions options = OptionsOf(seed);
    OpWorld world(options);
    auto ops = OpsOf(seed);
    const size_t performed = RunOps(world, ops);
    for (const auto& [what, count] : world.seen()) seen[what] += count;
    if (world.failed()) {
      const std::string& failure = world.failure();
      FAIL() << "KVTIER_TEST_SEED=" << seed << ", operation " << performed << ": " << failure
             << "\n"
             << Shrunk(options, std::move(ops), performed);
    }
  }
  std::signal(SIGABRT, SIG_DFL);
  for (const auto& [what, count] : seen)
    std::printf("%8llu  %s\n", static_cast<unsigned long long>(count), what.c_str());
  if (only != 0 || runs < kRuns) return;
  // What has to happen often enough for the test to mean something.
  for (const char* what : {"Attach RESOURCE_EXHAUSTED",
                           "Detach",
                           "Detach NOT_FOUND",
                           "Reserve",
                           "Reserve NOT_FOUND",
                           "Reserve INVALID_ARGUMENT",
                           "Reserve FAILED_PRECONDITION",
                           "Reserve RESOURCE_EXHAUSTED",
                           "commit COMMITTED",
                           "commit PARTIAL",
                           "commit ALREADY_EXISTS",
                           "commit of a tail",
                           "Commit NOT_FOUND",
                           "Commit INVALID_ARGUMENT",
                           "Commit FAILED_PRECONDITION",
                           "Commit RESOURCE_EXHAUSTED",
                           "Abort",
                           "Lookup miss",
                           "Lookup part",
                           "Lookup all",
                           "Lookup RESOURCE_EXHAUSTED",
                           "Lookup NOT_FOUND",
                           "Lookup INVALID_ARGUMENT",
                           "Renew",
                           "Renew NOT_FOUND",
                           "Release",
                           "Release NOT_FOUND",
                           "Report",
                           "Report INVALID_ARGUMENT",
                           "Read",
                           "Resolve NOT_FOUND",
                           "Resolve INVALID_ARGUMENT",
                           "Prefetch",
                           "Forget",
                           "SetBudget INVALID_ARGUMENT",
                           "budget lowered below what is held",
                           "session expired",
                           "lease expired",
                           "incomplete dropped",
                           "event committed",
                           "event dropped",
                           "event forgotten",
                           "event moved",
                           "event lost",
                           "move done",
                           "move failed",
                           "copy damaged",
                           "corrupt copy found by a move",
                           "last copy corrupt",
                           "one of two copies corrupt",
                           "block with two copies",
                           "lost chunk committed again",
                           "slots retired",
                           "section held bytes",
                           "Reserve in place",
                           "Reserve without room in place",
                           "inbox mapped and sealed",
                           "block written in place",
                           "Commit in an inbox that is not sealed",
                           "AttachShared",
                           "AttachShared RESOURCE_EXHAUSTED",
                           "AttachShared FAILED_PRECONDITION",
                           "AttachShared NOT_FOUND",
                           "shared section holds blocks",
                           "shared section left",
                           "shared section ended by a timeline",
                           "shared client ended",
                           "shared client ended in a section",
                           "a client scribbled over its page",
                           "Lookup over the section limit",
                           "reports taken from a ring",
                           "invalid reports in a ring",
                           "read from pool 0",
                           "read from pool 1"}) {
    EXPECT_GE(seen[what], kSeenMin) << what;
  }
}

// A run is a function of its inputs and seed.
TEST(EngineProperty, TheSameInputsGiveTheSameEvents) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    const auto ops = OpsOf(seed);
    std::vector<Event> events[2];
    uint64_t digests[2];
    std::string counters[2];
    for (int twice = 0; twice < 2; ++twice) {
      OpWorld world(OptionsOf(seed));
      RunOps(world, ops);
      ASSERT_EQ(world.failure(), "");
      digests[twice] = world.digest();
      for (uint16_t tenant = 0; tenant < world.fixture().options().tenants; ++tenant) {
        const std::vector<Event> some = world.fixture().Events(tenant);
        events[twice].insert(events[twice].end(), some.begin(), some.end());
      }
      const EngineCounters c = world.engine().counters();
      counters[twice] =
          absl::StrCat(c.lookups, " ", c.hit_chunks, " ", c.committed_chunks, " ", c.dropped_chunks,
                       " ", c.moves_started, " ", c.moves_done, " ", c.moves_failed, " ",
                       c.moved_bytes, " ", c.verified_bytes, " ", c.corrupt_copies, " ",
                       c.reservations_refused, " ", c.leases_expired);
    }
    EXPECT_EQ(digests[0], digests[1]);
    EXPECT_EQ(events[0], events[1]);
    EXPECT_EQ(counters[0], counters[1]);
  }
}

// Copies may complete in any order: other orders may lead elsewhere, but never to a wrong answer.
TEST(EngineProperty, AnyOrderOfCompletionsIsLegal) {
  uint64_t different = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    const auto ops = OpsOf(seed);
    uint64_t digests[2];
    for (uint64_t order = 0; order < 2; ++order) {
      OpWorldOptions options = OptionsOf(seed);
      options.copy_seed = seed * 1000 + order;
      OpWorld world(options);
      RunOps(world, ops);
      ASSERT_EQ(world.failure(), "")
          << "seed " << seed << ", order of completions " << options.copy_seed;
      digests[order] = world.digest();
    }
    different += digests[0] != digests[1];
  }
  EXPECT_GE(different, 10u) << "the order of completions did not matter, so nothing was tested";
}

}  // namespace
}  // namespace kvtier::test_support
