// Proves the small parts of a replay: the pattern that blocks have, the histogram of latencies
// against sorted numbers, and the frames between a replay and its workers.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "client/cli/replay/block_pattern.h"
#include "client/cli/replay/latency_histogram.h"
#include "client/cli/replay/play_message.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::replay {
namespace {

using test_support::IsOk;
using test_support::StatusIs;

TEST(BlockPatternTest, OnlyTheWholeBlockOfTheKeyMatches) {
  Key key{};
  for (size_t i = 0; i < key.size(); ++i) key[i] = static_cast<uint8_t>(3 * i + 1);
  for (const size_t size : {size_t{1}, size_t{7}, size_t{64}, size_t{4099}}) {
    std::vector<char> bytes(size);
    BlockPattern(key).Fill(absl::MakeSpan(bytes));
    EXPECT_TRUE(BlockPattern(key).Matches(bytes));
    for (size_t i = 0; i < size; ++i) {
      bytes[i] = static_cast<char>(bytes[i] ^ 0x20);
      EXPECT_FALSE(BlockPattern(key).Matches(bytes)) << i << " of " << size;
      bytes[i] = static_cast<char>(bytes[i] ^ 0x20);
    }
    for (size_t i = 0; i < key.size() && size >= 16; ++i) {
      Key other = key;
      other[i] ^= 0x80;
      EXPECT_FALSE(BlockPattern(other).Matches(bytes)) << "byte " << i << " of the key";
    }
  }
  // Neither a block of zeros nor one that is shifted.
  std::vector<char> shifted(4096 + 8);
  BlockPattern(key).Fill(absl::MakeSpan(shifted));
  EXPECT_FALSE(BlockPattern(key).Matches(absl::MakeConstSpan(shifted).subspan(8)));
  EXPECT_FALSE(BlockPattern(key).Matches(std::vector<char>(4096)));
}

TEST(LatencyHistogramTest, QuantilesAreThoseOfTheSortedNumbers) {
  Rng rng(test_support::TestSeed(2));
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.Quantile(0.5), 0u);
  std::vector<uint64_t> numbers;
  for (int i = 0; i < 20'000; ++i) {
    numbers.push_back(rng.Next() >> (20 + rng.Below(44)));
    histogram.Add(numbers.back());
  }
  std::sort(numbers.begin(), numbers.end());
  EXPECT_EQ(histogram.max_us(), numbers.back());
  for (const double share : {0.001, 0.1, 0.5, 0.9, 0.99, 1.0}) {
    const uint64_t exact =
        numbers[static_cast<size_t>(share * static_cast<double>(numbers.size())) - 1];
    EXPECT_GE(histogram.Quantile(share), exact) << share;
    EXPECT_LE(histogram.Quantile(share), exact + exact / 64) << share;
  }
  histogram.Add(~uint64_t{0});
  EXPECT_EQ(histogram.Quantile(1), ~uint64_t{0});
}

TEST(PlayMessageTest, RequestsAndResultsArriveAsTheyWere) {
  PlayRequest request;
  request.number = 7;
  request.request = {.block_count = 3, .shared_blocks = 2, .shared_scope = 11, .scope = 12};
  request.ids = {5, ~uint64_t{0}, 9};
  ASSERT_OK_AND_ASSIGN(const PlayRequest same, DecodeRequest(EncodeRequest(request)));
  EXPECT_EQ(same.number, 7u);
  EXPECT_EQ(same.ids, request.ids);
  EXPECT_EQ(sim::NameOf(same.request, 1, 5), (sim::BlockName{11, 1}));
  EXPECT_EQ(sim::NameOf(same.request, 2, 9), (sim::BlockName{12, 9}));
  std::string cut = EncodeRequest(request);
  cut.pop_back();
  EXPECT_THAT(DecodeRequest(cut), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeRequest("x"), StatusIs(absl::StatusCode::kDataLoss));

  PlayResult result{.number = 1, .latency_us = 2};
  PlayCounts& counts = result.counts;
  counts = {.requests = 3,
            .chunks = 4,
            .hits = 5,
            .verified = 6,
            .corrupt = 7,
            .damaged = 8,
            .stored = 9,
            .already_stored = 10,
            .refused = 11,
            .recomputed = 12,
            .read_in_place = 17,
            .read_by_stream = 18};
  counts.hits_by_tier = {{"hbm:0", 13}};
  counts.bytes_by_link = {{"a->b", 14}, {"b->c", 15}};
  counts.errors_by_code = {{"ABORTED", 16}};
  counts.first_errors = {{"ABORTED", "the first"}};
  ASSERT_OK_AND_ASSIGN(PlayResult back, DecodeResult(EncodeResult(result)));
  EXPECT_EQ(EncodeResult(back), EncodeResult(result));
  EXPECT_EQ(back.counts.recomputed, 12u);
  EXPECT_EQ(back.counts.first_errors, counts.first_errors);
  counts.first_errors = {{"ABORTED", "a later one"}, {"UNKNOWN", "of another code"}};
  back.counts.Add(counts);
  EXPECT_EQ(back.counts.first_errors["ABORTED"], "the first");
  EXPECT_EQ(back.counts.first_errors["UNKNOWN"], "of another code");
  EXPECT_EQ(back.counts.verified, 12u);
  EXPECT_EQ(back.counts.read_in_place, 34u);
  EXPECT_EQ(back.counts.read_by_stream, 36u);
  EXPECT_EQ(back.counts.bytes_by_link["b->c"], 30u);
  for (const char* bad : {"", "{}", "[1]", "nonsense"})
    EXPECT_THAT(DecodeResult(bad), StatusIs(absl::StatusCode::kDataLoss)) << bad;
}

TEST(PlayMessageTest, FramesOverAPipe) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  for (const std::string& frame : {std::string("one"), std::string(), std::string(1000, 'x')}) {
    ASSERT_THAT(WriteFrame(ends[1], frame), IsOk());
    ASSERT_OK_AND_ASSIGN(const std::string read, ReadFrame(ends[0]));
    EXPECT_EQ(read, frame);
  }
  // A frame that claims to be endless, one that is cut short, and the end.
  const uint64_t sizes[] = {~uint64_t{0}, 5};
  ASSERT_EQ(write(ends[1], sizes, sizeof sizes), static_cast<ssize_t>(sizeof sizes));
  ASSERT_EQ(write(ends[1], "ab", 2), 2);
  close(ends[1]);
  EXPECT_THAT(ReadFrame(ends[0]), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(ReadFrame(ends[0]), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(ReadFrame(ends[0]), StatusIs(absl::StatusCode::kUnavailable));
  close(ends[0]);
}

}  // namespace
}  // namespace kvtier::replay
