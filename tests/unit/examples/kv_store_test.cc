// Proves the contract of KvStore on LocalKvStore: what was committed is found and read back, what
// was not is invisible, and memory stays within its limit and is given back.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <list>
#include <string>

#include "client/examples/local_kv_store.h"

namespace kvtier::examples {
namespace {

using ::testing::ElementsAre;

KvGeometry Geometry() {
  return {.chunk_tokens = 4, .layers = 2, .kv_heads = 1, .head_dim = 8, .type = KvType::kFloat32};
}

// With blocks in place, and with copies.
class LocalKvStoreTest : public ::testing::TestWithParam<bool> {
 protected:
  ChunkKey Key(const ChunkKey& parent, std::vector<uint32_t> tokens) {
    return *store_.Key(parent, tokens);
  }

  KvStore::ReservationId Fill(const ChunkKey& parent, const std::vector<std::string>& chunks) {
    const KvStore::ReservationId reservation = *store_.Reserve(parent, chunks.size());
    std::vector<StoreBlock> blocks;
    for (size_t c = 0; c < chunks.size(); ++c) {
      for (size_t p = 0; p < Geometry().planes(); ++p) {
        const std::string& text = bytes_.emplace_back(Text(chunks[c], p));
        blocks.push_back({.chunk = c, .plane = p, .bytes = std::as_bytes(std::span(text))});
      }
    }
    EXPECT_TRUE(store_.Store(reservation, blocks).ok());
    return reservation;
  }

  static std::string Text(const std::string& chunk, size_t plane) {
    std::string text = chunk + std::to_string(plane);
    text.resize(Geometry().plane_bytes(), '.');
    return text;
  }

  std::string Read(const KvStore::Lease& lease, size_t chunk, size_t plane) {
    KvTable kv(Geometry());
    const KvStep step(store_, kv);
    const auto result = store_.Fetch(lease, kv);
    EXPECT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(kv.chunks(), lease.chunks);
    EXPECT_EQ(kv.memory(chunk), GetParam() ? ChunkMemory::kViewed : ChunkMemory::kOwn);
    EXPECT_EQ(kv.counts().bytes_fetched, GetParam() ? 0 : lease.chunks * Geometry().chunk_bytes());
    const std::span<const std::byte> bytes = kv.plane(chunk, plane);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  const ChunkKey root_{};
  LocalKvStore store_{
      {.geometry = Geometry(), .bytes_max = 3 * Geometry().chunk_bytes(), .in_place = GetParam()}};
  std::list<std::string> bytes_;
};

TEST_P(LocalKvStoreTest, CommittedChunksAreFoundAndReadBack) {
  const ChunkKey a = Key(root_, {1, 2, 3, 4});
  const ChunkKey b = Key(a, {5, 6, 7, 8});
  const auto reservation = Fill(root_, {"first", "second"});
  EXPECT_EQ(store_.Acquire({a, b})->chunks, 0u);  // nothing is visible before the commit
  EXPECT_THAT(*store_.Commit(reservation, {{0, a, 4}, {1, b, 4}}),
              ElementsAre(CommitOutcome::kCommitted, CommitOutcome::kCommitted));
  const auto lease = store_.Acquire({a, b, Key(b, {9})});
  ASSERT_TRUE(lease.ok());
  EXPECT_EQ(lease->chunks, 2u);
  EXPECT_EQ(Read(*lease, 0, 3), Text("first", 3));
  EXPECT_EQ(Read(*lease, 1, 0), Text("second", 0));
  EXPECT_TRUE(store_.Release(lease->id).ok());
  EXPECT_TRUE(absl::IsNotFound(store_.Release(lease->id)));
}

TEST_P(LocalKvStoreTest, KeysDependOnParentTokensAndCount) {
  const ChunkKey a = Key(root_, {1, 2, 3, 4});
  EXPECT_EQ(a, Key(root_, {1, 2, 3, 4}));
  EXPECT_NE(a, Key(root_, {1, 2, 3}));
  EXPECT_NE(a, Key(a, {1, 2, 3, 4}));
  EXPECT_NE(a, root_);
}

TEST_P(LocalKvStoreTest, ASecondCommitKeepsTheFirst) {
  const ChunkKey a = Key(root_, {1});
  ASSERT_TRUE(store_.Commit(Fill(root_, {"one"}), {{0, a, 1}}).ok());
  EXPECT_THAT(*store_.Commit(Fill(root_, {"two"}), {{0, a, 1}}),
              ElementsAre(CommitOutcome::kAlreadyExists));
  EXPECT_EQ(Read(*store_.Acquire({a}), 0, 0), Text("one", 0));
  EXPECT_EQ(store_.bytes(), Geometry().chunk_bytes());
}

TEST_P(LocalKvStoreTest, MemoryIsLimitedAndGivenBack) {
  const auto reservation = store_.Reserve(root_, 3);
  ASSERT_TRUE(reservation.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(store_.Reserve(root_, 1).status()));
  EXPECT_TRUE(store_.Abort(*reservation).ok());
  EXPECT_EQ(store_.bytes(), 0u);
  EXPECT_TRUE(absl::IsNotFound(store_.Abort(*reservation)));
  EXPECT_TRUE(absl::IsResourceExhausted(store_.Reserve(root_, 4).status()));
  EXPECT_TRUE(store_.Reserve(root_, 3).ok());
}

TEST_P(LocalKvStoreTest, WrongRequestsChangeNothing) {
  EXPECT_TRUE(absl::IsFailedPrecondition(store_.Reserve(Key(root_, {1}), 1).status()));
  const auto reservation = store_.Reserve(root_, 1);
  std::string text(Geometry().plane_bytes(), 'x');
  const auto bytes = std::as_bytes(std::span(text));
  for (const StoreBlock& block :
       {StoreBlock{1, 0, bytes}, StoreBlock{0, 4, bytes}, StoreBlock{0, 0, bytes.first(8)}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(store_.Store(*reservation, {block})));
  }
  EXPECT_TRUE(absl::IsInvalidArgument(store_.Commit(*reservation, {{1, root_, 4}}).status()));
  EXPECT_TRUE(absl::IsNotFound(store_.Commit(*reservation + 1, {}).status()));
  KvTable kv(Geometry());
  EXPECT_TRUE(absl::IsNotFound(store_.Fetch({.id = 7, .chunks = 1}, kv).status()));
  EXPECT_TRUE(store_.Buffers(*reservation, 1).empty());
  EXPECT_TRUE(store_.Buffers(*reservation + 1, 0).empty());
  EXPECT_EQ(store_.chunks(), 0u);
}

TEST_P(LocalKvStoreTest, ReservedChunksAreWrittenWhereTheyStay) {
  const ChunkKey a = Key(root_, {1, 2, 3, 4});
  const auto reservation = store_.Reserve(root_, 1);
  const std::vector<std::byte*> planes = store_.Buffers(*reservation, 0);
  EXPECT_EQ(store_.in_place(), GetParam());
  if (!GetParam()) {
    EXPECT_TRUE(planes.empty());
    return;
  }
  ASSERT_EQ(planes.size(), Geometry().planes());
  for (size_t p = 0; p < planes.size(); ++p)
    Text("here", p).copy(reinterpret_cast<char*>(planes[p]), 1000);
  ASSERT_TRUE(store_.Commit(*reservation, {{0, a, 4}}).ok());
  EXPECT_EQ(Read(*store_.Acquire({a}), 0, 1), Text("here", 1));
}

// As of a daemon: what was written in place and turned out to be there already can be read until
// the step ends.
TEST_P(LocalKvStoreTest, WhatWasWrittenTwiceLastsToTheEndOfTheStep) {
  if (!GetParam()) return;
  const ChunkKey a = Key(root_, {1});
  ASSERT_TRUE(store_.Commit(Fill(root_, {"one"}), {{0, a, 1}}).ok());
  const auto second = Fill(root_, {"two"});
  const std::byte* block = store_.Buffers(second, 0).at(0);
  KvTable kv(Geometry());
  const KvStep step(store_, kv);
  EXPECT_THAT(*store_.Commit(second, {{0, a, 1}}), ElementsAre(CommitOutcome::kAlreadyExists));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(block), 4), "two0");
}

INSTANTIATE_TEST_SUITE_P(All, LocalKvStoreTest, ::testing::Bool());

}  // namespace
}  // namespace kvtier::examples
