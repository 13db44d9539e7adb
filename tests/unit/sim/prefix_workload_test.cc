// What a trace's prompts are as work: chunks by parent and name; their bytes and operations
// counted here again by hand; requests in the order of their service.
#include "sim/prefix_workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sim/spec_reader.h"
#include "sim/trace_reader.h"
#include "tests/support/status_matchers.h"

namespace kvtier::sim {
namespace {

using ::kvtier::test_support::IsOk;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint32_t kBlock = 16;

class PrefixWorkloadTest : public ::testing::Test {
 protected:
  void Add(int at_ms, uint64_t tokens, const std::vector<uint64_t>& ids) {
    const std::string line =
        absl::StrCat("{\"timestamp\": ", at_ms, ", \"input_length\": ", tokens,
                     ", \"output_length\": 1, \"hash_ids\": [", absl::StrJoin(ids, ","), "]}");
    ASSERT_THAT(AppendMooncakeLine(line, "here", trace_), IsOk());
  }
  PrefixWorkload Make() {
    auto workload = MakePrefixWorkload(trace_, model_, {});
    EXPECT_TRUE(workload.ok()) << workload.status();
    return *std::move(workload);
  }
  static std::vector<uint32_t> Of(const PrefixWorkload& workload, size_t request) {
    const auto chunks = workload.ChunksOf(workload.requests[request]);
    return {chunks.begin(), chunks.end()};
  }

  Trace trace_{.block_tokens = kBlock};
  ModelSpec model_ = *ReadModel("llama-3.1-8b");
};

TEST_F(PrefixWorkloadTest, SharesPrefixesAndCountsTheirCosts) {
  Add(0, 48, {1, 2, 3});
  Add(1, 40, {1, 2, 4});
  const PrefixWorkload workload = Make();
  EXPECT_THAT(Of(workload, 0), ElementsAre(0, 1, 2));
  EXPECT_THAT(Of(workload, 1), ElementsAre(0, 1, 3));
  const PrefixChunk& tail = workload.chunks[3];
  EXPECT_EQ(tail.parent, 1u);
  EXPECT_EQ(tail.tokens, 8u) << "the last block has what is left";
  EXPECT_EQ(tail.context_tokens, 32u);
  EXPECT_EQ(tail.bytes, 8u * 131'072);
  uint64_t pairs = 0;
  for (uint64_t token = 32; token < 40; ++token) pairs += token + 1;
  EXPECT_EQ(tail.recompute_flops,
            8 * model_.FlopsPerToken() + pairs * model_.AttentionFlopsPerPair());
  EXPECT_EQ(workload.requests[1].extra_flops, 0u);
}

TEST_F(PrefixWorkloadTest, TellsChunksApartByParent) {
  Add(0, 32, {1, 2});
  Add(1, 32, {3, 2});
  Add(2, 20, {1, 4});
  const PrefixWorkload workload = Make();
  EXPECT_EQ(workload.chunks.size(), 5u) << "another parent, or another name";
}

// As two chunks they would cost twice, which an engine with smaller blocks need not pay.
TEST_F(PrefixWorkloadTest, RefusesABlockOfTwoSizes) {
  Add(0, 20, {1, 2});
  Add(1, 32, {1, 2});
  const absl::Status status = MakePrefixWorkload(trace_, model_, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("request 1 of the trace: the prompt has 16 tokens of block 2, and "
                        "an earlier one had 4 of it"));
  trace_.requests[1].line = 7;
  EXPECT_THAT(std::string(MakePrefixWorkload(trace_, model_, {}).status().message()),
              HasSubstr("line 7 of the trace: the prompt has 16 tokens"));
}

TEST_F(PrefixWorkloadTest, ServesInOrderOfTime) {
  Add(5, 16, {1});
  Add(2, 16, {2});
  Add(9, 0, {});
  const PrefixWorkload workload = Make();
  EXPECT_EQ(workload.requests[0].trace_request, 1u);
  EXPECT_EQ(workload.requests[1].trace_request, 0u);
  EXPECT_EQ(workload.requests[2].chunk_count, 0u);
  auto first = MakePrefixWorkload(trace_, model_, {.requests_max = 1});
  ASSERT_THAT(first.status(), IsOk());
  EXPECT_EQ(first->requests.size(), 1u);
}

// Sessions name whole blocks only: what is behind them is computed by every request.
TEST_F(PrefixWorkloadTest, ComputesTokensBehindTheLastWholeBlock) {
  Trace trace;
  ASSERT_THAT(AppendSession(R"({"block_size": 16, "requests": [
      {"t": 0, "in": 37, "out": 1, "hash_ids": [1, 2]}, {"t": 1, "in": 0, "hash_ids": [1, 2]}]})",
                            "a", "here", trace),
              IsOk());
  const auto workload = MakePrefixWorkload(trace, model_, {});
  ASSERT_THAT(workload.status(), IsOk());
  EXPECT_EQ(workload->requests[0].extra_flops, model_.PrefillFlops(5, 32));
  EXPECT_EQ(workload->requests[1].extra_flops, 0u) << "its length is not known";
  EXPECT_EQ(workload->chunks[1].tokens, 16u);
}

TEST_F(PrefixWorkloadTest, RefusesPromptsBeyondTheModelsArithmetic) {
  trace_.block_tokens = kBlockTokensMax;
  std::vector<uint64_t> ids;
  for (uint64_t i = 0; i <= kPromptTokensMax / kBlockTokensMax; ++i) ids.push_back(i);
  Add(0, ids.size() * kBlockTokensMax, ids);
  const absl::Status status = MakePrefixWorkload(trace_, model_, {}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("request 0 of the trace: the prompt has 1114112 tokens"));
  EXPECT_FALSE(MakePrefixWorkload(Trace{.block_tokens = 16}, model_, {}).ok());
}

}  // namespace
}  // namespace kvtier::sim
