// Drives a whole client from four threads against the fake daemon: half of them block, the others
// submit and wait.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/client/client_fixture.h"

namespace kvtier::testing {
namespace {

using ManyThreadsTest = ClientTest;

TEST_F(ManyThreadsTest, FourThreadsShareAClient) {
  Attach();
  auto model = client_->RegisterModel(Geometry());
  ASSERT_TRUE(model.ok());
  const std::vector<Key> keys = Store(*model, 4);
  std::atomic<int> good{0};
  constexpr int kRounds = 50;
  const auto work = [&](int thread) {
    std::string bytes(600, 'x');
    for (int round = 0; round < kRounds; ++round) {
      // Half of the threads submit and wait, the others block.
      absl::StatusOr<Match> match = absl::UnknownError("not called");
      LookupRequest lookup{.model = *model, .keys = keys};
      if (thread % 2 == 0) {
        match = client_->Lookup(lookup);
      } else {
        auto ticket = client_->SubmitLookup(lookup);
        ASSERT_TRUE(ticket.ok()) << ticket.status();
        auto completion = client_->Wait(*ticket);
        ASSERT_TRUE(completion.ok() && completion->status.ok());
        match = std::get<Match>(completion->value);
      }
      ASSERT_TRUE(match.ok()) << match.status();
      const uint32_t chunk = static_cast<uint32_t>(thread + round) % 4;
      GetRequest get{.model = *model, .lease = match->lease};
      get.blocks.push_back({.chunk = chunk, .plane = 1, .pieces = {{bytes.data(), 600}}});
      auto result = client_->Get(get);
      ASSERT_TRUE(result.ok() && result->all_ok);
      ASSERT_EQ(bytes, Bytes(chunk, 1));
      ASSERT_TRUE(client_->Release(match->lease).ok());
      ++good;
    }
  };
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) threads.emplace_back(work, thread);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good.load(), 4 * kRounds);
}

}  // namespace
}  // namespace kvtier::testing
