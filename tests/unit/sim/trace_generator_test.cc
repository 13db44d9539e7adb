// Proves that synthetic traces are functions of their options, that they read back, and that their
// prompts share what the kind promises: checked on the trace as it was read, against what a reader
// of the help expects, for many seeds.
#include "sim/trace_generator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "sim/trace_reader.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::sim {
namespace {

using test_support::IsOk;
using test_support::StatusIs;

std::string Generate(const WorkloadOptions& options) {
  std::string text;
  EXPECT_THAT(GenerateTrace(options,
                            [&](std::string_view line) {
                              text.append(line);
                              return absl::OkStatus();
                            }),
              IsOk());
  return text;
}

WorkloadOptions Small(WorkloadKind kind, uint64_t seed, uint64_t requests = 300) {
  WorkloadOptions options = DefaultWorkload(kind);
  options.requests = requests;
  options.seed = seed;
  return options;
}

TEST(TraceGeneratorTest, TheBytesFollowFromTheOptions) {
  // These very bytes, on any machine: who has a seed has the trace.
  WorkloadOptions options = Small(WorkloadKind::kChat, 7, 3);
  options.concurrency = 2;
  EXPECT_EQ(
      Generate(options),
      R"({"timestamp": 15593, "input_length": 2767, "output_length": 254, "hash_ids": [0, 1, 2, 3, 4, 5]})"
      "\n"
      R"({"timestamp": 16526, "input_length": 3136, "output_length": 46, "hash_ids": [0, 1, 2, 3, 4, 6, 7]})"
      "\n"
      R"({"timestamp": 32809, "input_length": 3723, "output_length": 249, "hash_ids": [0, 1, 2, 3, 4, 6, 8, 9]})"
      "\n");
  for (const WorkloadKind kind : {WorkloadKind::kChat, WorkloadKind::kRag, WorkloadKind::kAgent}) {
    EXPECT_EQ(Generate(Small(kind, 1)), Generate(Small(kind, 1)));
    EXPECT_NE(Generate(Small(kind, 1)), Generate(Small(kind, 2)));
    // A longer trace begins with the shorter one.
    EXPECT_EQ(Generate(Small(kind, 1, 400)).find(Generate(Small(kind, 1))), 0u);
  }
}

TEST(TraceGeneratorTest, WritingEndsWithTheFirstError) {
  int lines = 0;
  EXPECT_THAT(GenerateTrace(Small(WorkloadKind::kRag, 0),
                            [&](std::string_view) {
                              return ++lines < 3 ? absl::OkStatus() : absl::DataLossError("full");
                            }),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(lines, 3);
}

class TraceGeneratorPropertyTest : public ::testing::TestWithParam<WorkloadKind> {
 protected:
  // What was generated, read back.
  Trace Read(const WorkloadOptions& options) {
    auto trace = ReadTrace(directory_.Write("t.jsonl", Generate(options)),
                           {.block_tokens = options.block_tokens});
    EXPECT_THAT(trace, IsOk());
    return trace.ok() ? *std::move(trace) : Trace{};
  }
  test_support::TempDir directory_;
};

TEST_P(TraceGeneratorPropertyTest, TracesReadBackAndShareWhatIsPromised) {
  Rng rng(test_support::TestSeed(3));
  for (int round = 0; round < 20; ++round) {
    WorkloadOptions options = Small(GetParam(), rng.Next(), 1 + rng.Below(400));
    options.block_tokens = static_cast<uint32_t>(16 + rng.Below(600));
    options.concurrency = static_cast<uint32_t>(1 + rng.Below(20));
    options.prefixes = static_cast<uint32_t>(1 + rng.Below(9));
    options.common_tokens = rng.Below(3000);
    options.context_tokens_max = 1 + rng.Below(100'000);
    SCOPED_TRACE(options.seed);
    const Trace trace = Read(options);
    ASSERT_EQ(trace.requests.size(), options.requests);
    const uint64_t common = options.common_tokens / options.block_tokens;
    const uint64_t prefix = (options.common_tokens + options.prefix_tokens) / options.block_tokens;
    std::map<uint64_t, uint64_t> parents;  // of an id: the id before it
    std::set<std::vector<uint64_t>> prefixes;
    double before_s = 0;
    for (const TraceRequest& request : trace.requests) {
      ASSERT_GE(request.at_s, before_s) << "in order of time";
      before_s = request.at_s;
      const auto ids = trace.IdsOf(request);
      ASSERT_GE(ids.size(), prefix);
      for (size_t i = 0; i < ids.size(); ++i) {
        const uint64_t parent = i == 0 ? ~uint64_t{0} : ids[i - 1];
        ASSERT_EQ(parents.try_emplace(ids[i], parent).first->second, parent)
            << "an id after another prefix";
      }
      for (size_t i = 0; i < common; ++i) ASSERT_EQ(ids[i], trace.ids[i]) << "not common";
      prefixes.emplace(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(prefix));
    }
    EXPECT_LE(prefixes.size(), options.prefixes);
  }
}

TEST_P(TraceGeneratorPropertyTest, ConversationsKeepTheirWholeBlocks) {
  // One conversation at a time, so that what follows a request is its next turn or a new start.
  WorkloadOptions options = Small(GetParam(), 11);
  options.concurrency = 1;
  const Trace trace = Read(options);
  size_t continued = 0;
  size_t longest = 0;
  for (size_t i = 1; i < trace.requests.size(); ++i) {
    const auto before = trace.IdsOf(trace.requests[i - 1]);
    const auto now = trace.IdsOf(trace.requests[i]);
    longest = std::max(longest, now.size());
    size_t same = 0;
    while (same < std::min(before.size(), now.size()) && before[same] == now[same]) ++same;
    if (same + 1 >= before.size()) ++continued;
  }
  const uint64_t expected = options.requests * (options.turns_mean - 1) / options.turns_mean;
  if (GetParam() == WorkloadKind::kRag) {
    // Only where the same document is asked about twice in a row.
    EXPECT_LT(continued, options.requests / 4);
  } else {
    EXPECT_GT(continued, expected * 8 / 10);
    EXPECT_LT(continued, options.requests);
  }
  EXPECT_LE(longest, (options.context_tokens_max + 2 * options.input_tokens_mean +
                      2 * options.output_tokens_mean) /
                             options.block_tokens +
                         1);
}

INSTANTIATE_TEST_SUITE_P(Kinds, TraceGeneratorPropertyTest,
                         ::testing::Values(WorkloadKind::kChat, WorkloadKind::kRag,
                                           WorkloadKind::kAgent));

TEST(TraceGeneratorTest, SomeDocumentsAreAskedAboutFarMoreOften) {
  WorkloadOptions options = Small(WorkloadKind::kRag, 5, 4000);
  test_support::TempDir directory;
  ASSERT_OK_AND_ASSIGN(const Trace trace,
                       ReadTrace(directory.Write("t.jsonl", Generate(options)), {}));
  std::map<uint64_t, size_t> asked;  // by the document's last block
  const uint64_t prefix = (options.common_tokens + options.prefix_tokens) / options.block_tokens;
  for (const TraceRequest& request : trace.requests) ++asked[trace.IdsOf(request)[prefix - 1]];
  size_t most = 0;
  for (const auto& [block, count] : asked) most = std::max(most, count);
  EXPECT_GT(asked.size(), 200u);
  EXPECT_GT(most, 10 * trace.requests.size() / options.prefixes);
}

}  // namespace
}  // namespace kvtier::sim
