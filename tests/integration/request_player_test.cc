// Proves that a replay's worker knows wrong bytes from right ones and counts what happens to a
// request, with a real daemon: the test stores blocks under the keys that the worker will ask for.
#include "client/cli/replay/request_player.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "client/cli/replay/block_pattern.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

using replay::PlayCounts;
using replay::PlayRequest;
using replay::RequestPlayer;
using ::testing::ElementsAre;
using ::testing::Pair;

constexpr uint32_t kBlockTokens = 16;
constexpr uint64_t kChunkBytes = kBlockTokens * 64;

class RequestPlayerTest : public DaemonTest {
 protected:
  void Start(const std::string& config = SmallConfig()) {
    StartDaemon(config);
    client_ = Connect();
    ASSERT_NE(client_, nullptr);
    ASSERT_OK_AND_ASSIGN(
        player_, RequestPlayer::Create(client_.get(),
                                       {.block_tokens = kBlockTokens, .bytes_per_token = 64}));
    ModelGeometry geometry{.name = "kvtier.replay", .revision = "1", .data_type = "pattern"};
    geometry.chunk_tokens = kBlockTokens;
    geometry.planes = {{.name = "kv", .bytes_per_chunk = kChunkBytes}};
    ASSERT_OK_AND_ASSIGN(model_, client_->RegisterModel(geometry));
  }
  void TearDown() override {
    player_.reset();
    client_.reset();
    DaemonTest::TearDown();
  }

  static PlayRequest Request(const std::vector<uint64_t>& ids) {
    PlayRequest request;
    request.request.block_count = static_cast<uint32_t>(ids.size());
    request.ids = ids;
    return request;
  }
  PlayCounts Play(const std::vector<uint64_t>& ids) { return player_->Play(Request(ids)).counts; }

  // As the worker makes them.
  std::vector<Key> KeysOf(const std::vector<uint64_t>& ids) {
    std::vector<Key> keys;
    for (const uint64_t id : ids) {
      const uint64_t name[] = {0, id};
      keys.push_back(model_.OpaqueKey(keys.empty() ? Key{} : keys.back(),
                                      {reinterpret_cast<const char*>(name), sizeof(name)}));
    }
    return keys;
  }

  // Stores a chunk with the bytes of `content`, which may be another's.
  void Store(const Key& parent, const Key& key, const Key& content) {
    std::vector<char> bytes(kChunkBytes);
    replay::BlockPattern(content).Fill(absl::MakeSpan(bytes));
    ASSERT_OK_AND_ASSIGN(const ReservationHandle reservation,
                         client_->Reserve({.model = model_, .parent = parent}));
    PutRequest put{.model = model_, .reservation = reservation};
    put.blocks.push_back({.pieces = {{bytes.data(), bytes.size()}}});
    ASSERT_THAT(client_->Put(std::move(put)), IsOk());
    CommitRequest commit{.model = model_, .reservation = reservation};
    commit.chunks.push_back({.key = key, .token_count = kBlockTokens});
    ASSERT_THAT(client_->Commit(std::move(commit)), IsOk());
  }

  std::unique_ptr<Client> client_;
  std::unique_ptr<RequestPlayer> player_;
  Model model_;
};

TEST_F(RequestPlayerTest, WhatIsMissingIsStoredAndThenRead) {
  Start();
  PlayCounts counts = Play({1, 2, 3});
  EXPECT_EQ(counts.requests, 1u);
  EXPECT_EQ(counts.chunks, 3u);
  EXPECT_EQ(counts.hits, 0u);
  EXPECT_EQ(counts.stored, 3u);
  EXPECT_THAT(counts.bytes_by_link, ElementsAre(Pair("client->daemon", 3 * kChunkBytes)));
  counts = Play({1, 2, 4});
  EXPECT_EQ(counts.hits, 2u);
  EXPECT_EQ(counts.verified, 2u);
  EXPECT_EQ(counts.stored, 1u);
  EXPECT_THAT(counts.hits_by_tier, ElementsAre(Pair("hbm:0", 2)));
  EXPECT_THAT(counts.bytes_by_link, ElementsAre(Pair("client->daemon", kChunkBytes),
                                                Pair("hbm:0->client", 2 * kChunkBytes)));
  EXPECT_THAT(counts.errors_by_code, ElementsAre());
  EXPECT_EQ(daemon().Status().leases(), 0u) << "a lease was not released";
  EXPECT_EQ(daemon().Status().reservations(), 0u);
  EXPECT_EQ(Play({}).chunks, 0u);
}

TEST_F(RequestPlayerTest, PromptsLargerThanABufferAndACall) {
  // 5,000 chunks of 1 KiB: five lookups, two buffers.
  Start(SmallConfig("", "16MiB", "16MiB"));
  std::vector<uint64_t> ids(5000);
  for (uint64_t i = 0; i < ids.size(); ++i) ids[i] = i;
  EXPECT_EQ(Play(ids).stored, ids.size());
  ids.back() = 77'777;
  const PlayCounts counts = Play(ids);
  EXPECT_EQ(counts.hits, ids.size() - 1);
  EXPECT_EQ(counts.verified, ids.size() - 1);
  EXPECT_EQ(counts.stored, 1u);
  EXPECT_EQ(daemon().Status().leases(), 0u);
}

TEST_F(RequestPlayerTest, WrongBytesAreCorruptAndNoHit) {
  Start();
  const std::vector<Key> keys = KeysOf({1, 2, 3});
  Store({}, keys[0], keys[0]);
  Store(keys[0], keys[1], keys[2]);  // the bytes of another block
  Store(keys[1], keys[2], keys[2]);
  const PlayCounts counts = Play({1, 2, 3});
  EXPECT_EQ(counts.hits, 1u) << "what is behind a bad block is of no use";
  EXPECT_EQ(counts.verified, 1u);
  EXPECT_EQ(counts.corrupt, 1u);
  EXPECT_EQ(counts.already_stored, 2u);
}

TEST_F(RequestPlayerTest, WithoutADaemonRequestsAreRecomputedAndGoOnWhenItIsBack) {
  Start();
  EXPECT_EQ(Play({1, 2}).stored, 2u);
  daemon().Kill();
  PlayCounts counts = Play({1, 2});
  EXPECT_EQ(counts.requests, 1u);
  EXPECT_EQ(counts.chunks, 2u);
  EXPECT_EQ(counts.hits, 0u);
  EXPECT_EQ(counts.recomputed, 1u);
  EXPECT_THAT(counts.errors_by_code, ElementsAre(Pair("UNAVAILABLE", 1)));
  daemon_.reset();
  StartDaemon();
  ASSERT_THAT(client_->WaitAttached(kSoon), IsOk());
  EXPECT_EQ(Play({1, 2}).stored, 2u) << "the new daemon has nothing";
  EXPECT_EQ(Play({1, 2}).hits, 2u);
}

TEST_F(RequestPlayerTest, AModelThatTheDaemonRefusesIsAnError) {
  Start();
  EXPECT_THAT(RequestPlayer::Create(client_.get(), {.block_tokens = 1024, .bytes_per_token = 4096}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace kvtier::test_support
