// Proves that a load of k is k times the same work that shares nothing: as many times the chunks,
// bytes and operations, requests side by side in the order of the first, and one is the trace
// itself.
#include "sim/trace_load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "sim/prefix_workload.h"
#include "sim/spec_reader.h"
#include "sim/trace_generator.h"
#include "tests/support/status_matchers.h"

namespace kvtier::sim {
namespace {

// Two turns of one conversation, and another request.
Trace Small() {
  Trace trace{.block_tokens = 16, .ids = {1, 2, 1, 2, 3, 9}};
  trace.requests = {{.at_s = 0, .first_block = 0, .tokens = 32, .block_count = 2},
                    {.at_s = 1, .first_block = 2, .tokens = 48, .block_count = 3},
                    {.at_s = 1, .first_block = 5, .tokens = 10, .block_count = 1}};
  return trace;
}

PrefixWorkload WorkOf(const Trace& trace, uint32_t sessions = 1) {
  auto work = MakePrefixWorkload(trace, *ReadModel("llama-3.1-8b"), {.sessions = sessions});
  EXPECT_TRUE(work.ok()) << work.status();
  return *std::move(work);
}

uint64_t Flops(const PrefixWorkload& work) {
  return std::accumulate(
      work.chunks.begin(), work.chunks.end(), uint64_t{0},
      [](uint64_t sum, const PrefixChunk& chunk) { return sum + chunk.recompute_flops; });
}

TEST(TraceLoadTest, OneIsTheTraceItself) {
  const Trace trace = Small();
  const auto same = WithLoad(trace, 1);
  ASSERT_TRUE(same.ok());
  const PrefixWorkload before = WorkOf(trace);
  const PrefixWorkload after = WorkOf(*same);
  EXPECT_EQ(before.chunks, after.chunks);
  EXPECT_EQ(before.requests, after.requests);
  EXPECT_EQ(before.request_chunks, after.request_chunks);
}

TEST(TraceLoadTest, CopiesShareNothingAndStandSideBySide) {
  const PrefixWorkload one = WorkOf(Small());
  const PrefixWorkload three = WorkOf(*WithLoad(Small(), 3));
  EXPECT_EQ(three.chunks.size(), 3 * one.chunks.size());
  EXPECT_EQ(Flops(three), 3 * Flops(one));
  ASSERT_EQ(three.requests.size(), 3 * one.requests.size());
  for (size_t i = 0; i < three.requests.size(); ++i) {
    const PrefixRequest& original = one.requests[i / 3];
    EXPECT_EQ(three.requests[i].chunk_count, original.chunk_count) << i;
    EXPECT_EQ(three.requests[i].extra_flops, original.extra_flops) << i;
    // What a copy's request shares with its earlier ones is what the original's shares with its
    // own.
    for (uint32_t j = 0; j < original.chunk_count; ++j) {
      const auto& chunk = one.chunks[one.ChunksOf(original)[j]];
      const auto& copy = three.chunks[three.ChunksOf(three.requests[i])[j]];
      EXPECT_EQ(chunk.bytes, copy.bytes);
      EXPECT_EQ(chunk.context_tokens, copy.context_tokens);
    }
  }
  EXPECT_EQ(three.ChunksOf(three.requests[0])[0], three.ChunksOf(three.requests[3])[0]);
  EXPECT_NE(three.ChunksOf(three.requests[0])[0], three.ChunksOf(three.requests[1])[0]);
  EXPECT_NE(three.ChunksOf(three.requests[1])[0], three.ChunksOf(three.requests[2])[0]);
}

TEST(TraceLoadTest, SessionsAndSharedScopesAreCopiedToo) {
  Trace trace{.block_tokens = 16, .ids = {1, 2, 1, 2, 7, 8}};
  // Two sessions with the same tools: their first block is one.
  trace.requests = {{.first_block = 0,
                     .tokens = 32,
                     .block_count = 2,
                     .shared_blocks = 1,
                     .shared_scope = 1,
                     .scope = 2},
                    {.at_s = 5,
                     .first_block = 2,
                     .tokens = 32,
                     .block_count = 2,
                     .shared_blocks = 1,
                     .shared_scope = 1,
                     .scope = 2},
                    {.first_block = 4,
                     .tokens = 32,
                     .block_count = 2,
                     .shared_blocks = 1,
                     .shared_scope = 1,
                     .scope = 4}};
  trace.sessions = {{0, 2}, {2, 1}};
  const auto twice = WithLoad(trace, 2);
  ASSERT_TRUE(twice.ok());
  ASSERT_EQ(twice->sessions.size(), 4u);
  EXPECT_EQ(twice->sessions[2].first_request, 3u);
  EXPECT_EQ(WorkOf(trace).chunks.size(), 3u);
  EXPECT_EQ(WorkOf(*twice, 2).chunks.size(), 6u);
  // New scopes are none that were there.
  EXPECT_NE(twice->requests[3].scope, 1u);
  EXPECT_NE(twice->requests[3].scope, 2u);
  EXPECT_NE(twice->requests[3].scope, 4u);
  EXPECT_EQ(twice->requests[3].shared_scope, twice->requests[5].shared_scope);
}

TEST(TraceLoadTest, LimitsAreKept) {
  EXPECT_FALSE(WithLoad(Small(), 0).ok());
  EXPECT_FALSE(WithLoad(Small(), kLoadMax + 1).ok());
  Trace many{.block_tokens = 16};
  many.requests.resize(kRequestsMax / 64 + 1);
  const auto refused = WithLoad(many, 64);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(std::string(refused.status().message()), testing::HasSubstr("the limit is 10000000"));
}

}  // namespace
}  // namespace kvtier::sim
