// Proves who plays what and when: conversations are found and stay with one worker in order, work
// is shared out, sessions run so many at a time with seeded order and pauses, and a limit takes the
// first requests by time.
#include "sim/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::sim {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

void Append(Trace& trace, double at_s, const std::vector<uint64_t>& ids) {
  TraceRequest request;
  request.at_s = at_s;
  request.first_block = trace.ids.size();
  request.block_count = static_cast<uint32_t>(ids.size());
  trace.ids.insert(trace.ids.end(), ids.begin(), ids.end());
  trace.requests.push_back(request);
}

std::vector<uint32_t> Conversations(const std::vector<std::vector<uint64_t>>& prompts) {
  Trace trace;
  std::vector<uint32_t> order;
  for (const auto& ids : prompts) {
    order.push_back(static_cast<uint32_t>(trace.requests.size()));
    Append(trace, 0, ids);
  }
  return LinkConversations(trace, order);
}

TEST(ReplayScheduleTest, ConversationsAreChainsOfPromptsThatGrow) {
  // Two conversations behind one system prompt 0; the last block of each prompt is partly filled.
  EXPECT_THAT(
      Conversations({{0, 1, 10}, {0, 2, 20}, {0, 1, 3, 30}, {0, 2, 4, 40}, {0, 1, 3, 5, 50}}),
      ElementsAre(0, 1, 0, 1, 0));
  // A prompt of whole blocks, and the same prompt again.
  EXPECT_THAT(Conversations({{1, 2}, {1, 2, 3}, {1, 2, 3}}), ElementsAre(0, 0, 0));
  // Branches that have a whole prompt in them stay with its conversation, and so do theirs.
  EXPECT_THAT(Conversations({{1, 2}, {1, 2, 3}, {1, 2, 4}, {1, 2, 4, 5}, {1, 2, 3, 6}, {1, 2, 7}}),
              ElementsAre(0, 0, 0, 0, 0, 0));
  // A prompt of one block may be what others have in common.
  EXPECT_THAT(Conversations({{1}, {1, 2}, {1, 3}, {1, 4}}), ElementsAre(0, 0, 1, 2));
  // The second prompt that continues behind all but the last block is one of its own.
  EXPECT_THAT(Conversations({{1, 2, 10}, {1, 2, 3, 11}, {1, 2, 4, 12}}), ElementsAre(0, 0, 1));
  // A short system prompt in common looks like a first turn, but only once.
  EXPECT_THAT(Conversations({{0, 1}, {0, 2}, {0, 3}, {0, 4}}), ElementsAre(0, 0, 1, 2));
  EXPECT_THAT(Conversations({{}, {}, {7}}), ElementsAre(0, 1, 2));
}

TEST(ReplayScheduleTest, ConversationsStayWithAWorkerAndInOrder) {
  Rng rng(test_support::TestSeed(1));
  Trace trace;
  std::vector<std::vector<uint64_t>> prompts(40);
  uint64_t id = 1;
  std::vector<size_t> owner;
  for (int i = 0; i < 800; ++i) {
    std::vector<uint64_t>& prompt = prompts[rng.Below(prompts.size())];
    if (prompt.empty()) prompt = {0};
    prompt.push_back(id++);
    prompt.push_back(id++);
    owner.push_back(static_cast<size_t>(&prompt - prompts.data()));
    // Times rise, some are equal.
    Append(trace, static_cast<double>(100 + i / 3), prompt);
  }
  const std::vector<Play> plays = MakeSchedule(trace, {.workers = 4});
  ASSERT_EQ(plays.size(), 800u);
  EXPECT_EQ(plays[0].at_s, 0) << "the trace's time begins with its first request";
  std::map<size_t, uint32_t> worker_of;
  std::map<size_t, uint32_t> last_of;
  std::map<uint32_t, uint64_t> work_of;
  double before_s = 0;
  for (const Play& play : plays) {
    EXPECT_GE(play.at_s, before_s);
    before_s = play.at_s;
    const size_t conversation = owner[play.request];
    EXPECT_EQ(worker_of.try_emplace(conversation, play.worker).first->second, play.worker);
    const auto [last, first] = last_of.try_emplace(conversation, play.request);
    if (!first) {
      EXPECT_LT(std::exchange(last->second, play.request), play.request);
    }
    work_of[play.worker] += trace.requests[play.request].block_count;
  }
  ASSERT_EQ(work_of.size(), 4u);
  for (const auto& [worker, work] : work_of) {
    EXPECT_GT(work, trace.ids.size() / 4 * 6 / 10) << "worker " << worker;
    EXPECT_LT(work, trace.ids.size() / 4 * 14 / 10) << "worker " << worker;
  }
}

TEST(ReplayScheduleTest, ALimitTakesTheFirstByTime) {
  Trace trace;
  for (const double at_s : {5.0, 1.0, 3.0, 2.0}) Append(trace, at_s, {});
  const std::vector<Play> plays = MakeSchedule(trace, {.requests_max = 2});
  std::vector<std::pair<double, uint32_t>> found;
  for (const Play& play : plays) found.push_back({play.at_s, play.request});
  EXPECT_THAT(found, ElementsAre(Pair(0.0, 1), Pair(1.0, 3)));
}

// `count` sessions of `length` requests, ten seconds apart.
Trace Sessions(size_t count, size_t length) {
  Trace trace;
  for (size_t s = 0; s < count; ++s) {
    trace.sessions.push_back({trace.requests.size(), length});
    for (size_t i = 0; i < length; ++i) Append(trace, 100 + 10.0 * static_cast<double>(i), {});
  }
  return trace;
}

TEST(ReplayScheduleTest, SoManySessionsRunAtATimeWithTheirThinkTimes) {
  const Trace trace = Sessions(30, 5);
  const std::vector<Play> plays =
      MakeSchedule(trace, {.workers = 3, .sessions = 4, .seed = test_support::TestSeed(9)});
  ASSERT_EQ(plays.size(), 150u);
  struct Span {
    double first_s, last_s;
    uint32_t worker;
    size_t requests;
  };
  std::map<size_t, Span> spans;
  for (const Play& play : plays) {
    const size_t session = play.request / 5;
    auto [span, first] = spans.try_emplace(session, Span{play.at_s, play.at_s, play.worker, 0});
    EXPECT_EQ(span->second.requests++, play.request % 5) << "in order";
    EXPECT_EQ(span->second.worker, play.worker);
    if (!first) {
      EXPECT_NEAR(play.at_s - std::exchange(span->second.last_s, play.at_s), 10, 1e-9);
    }
  }
  std::vector<double> starts;
  for (const auto& entry : spans) {
    const auto& span = entry.second;
    starts.push_back(span.first_s);
    const auto at_once = std::count_if(spans.begin(), spans.end(), [&](const auto& other) {
      return other.second.first_s <= span.first_s && span.first_s < other.second.last_s;
    });
    EXPECT_LE(at_once, 4);
  }
  std::sort(starts.begin(), starts.end());
  for (size_t i = 0; i < 4; ++i) EXPECT_LE(starts[i], kSessionPauseSecondsMax);
  EXPECT_NE(starts[0], starts[1]) << "pauses differ";
}

TEST(ReplayScheduleTest, TheSeedDecidesOrderAndPauses) {
  const Trace trace = Sessions(20, 3);
  const auto requests = [&](uint64_t seed) {
    std::vector<std::pair<double, uint32_t>> found;
    for (const Play& play : MakeSchedule(trace, {.workers = 2, .sessions = 2, .seed = seed}))
      found.push_back({play.at_s, play.request});
    return found;
  };
  EXPECT_EQ(requests(1), requests(1));
  EXPECT_NE(requests(1), requests(2));
}

}  // namespace
}  // namespace kvtier::sim
