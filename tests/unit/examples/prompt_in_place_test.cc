// Proves what a worker does with blocks in a store's memory: it computes where the chunks stay,
// attends where they lie, follows them when they move, and computes again what it can read no more,
// be it one block, a lease, or everything at once. The answer has the same bits each time, and
// memory that blocks have left is not read: here it is overwritten.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <list>
#include <map>

#include "client/examples/local_kv_store.h"
#include "client/examples/prompt_runner.h"
#include "tests/unit/examples/faulty_store.h"

namespace kvtier::examples {
namespace {

constexpr PromptRunner::Options kOptions = {.tokens_max = 64};

class PromptInPlaceTest : public ::testing::Test {
 protected:
  PromptResult Run(const std::string& prompt, KvStore& store,
                   const PromptRunner::Options& options = kOptions) {
    PromptRunner runner(TestWeights(), Geometry(), store, pauses_, options);
    return runner.Run(prompt);
  }
  PromptResult Run(const std::string& prompt) { return Run(prompt, faulty_); }
  std::vector<uint8_t> Reference(const std::string& prompt) {
    LocalKvStore fresh({.geometry = Geometry(), .in_place = false});
    return Run(prompt, fresh, {.tokens_max = kOptions.tokens_max, .reuse = false}).generated;
  }
  size_t planes() const { return Geometry().planes(); }

  // As a store does that moves a chunk: its bytes are elsewhere, and others' where they were.
  void Move(KvTable& kv, size_t chunk) {
    std::vector<const std::byte*> views;
    for (size_t p = 0; p < planes(); ++p) {
      const std::span<const std::byte> old = kv.plane(chunk, p);
      const auto& moved = moved_.emplace_back(old.begin(), old.end());
      std::memset(const_cast<std::byte*>(old.data()), 0x7f, old.size());
      const auto home = home_.find(old.data());
      const std::byte* first = home == home_.end() ? old.data() : home->second;
      now_[first] = moved.data();
      home_[moved.data()] = first;
      views.push_back(moved.data());
    }
    kv.View(chunk, views);
  }
  // A new lease leads to where blocks are now.
  void Follow(KvTable& kv) {
    for (size_t c = 0; c < kv.chunks(); ++c) {
      if (kv.memory(c) != ChunkMemory::kViewed) continue;
      std::vector<const std::byte*> views;
      for (size_t p = 0; p < planes(); ++p) {
        const auto now = now_.find(kv.plane(c, p).data());
        views.push_back(now == now_.end() ? kv.plane(c, p).data() : now->second);
      }
      kv.View(c, views);
    }
  }

  PausePoints pauses_;
  LocalKvStore local_{{.geometry = Geometry()}};
  FaultyStore faulty_{local_};
  std::list<std::vector<std::byte>> moved_;
  std::map<const std::byte*, const std::byte*> now_;   // where the store wrote it -> where it is
  std::map<const std::byte*, const std::byte*> home_;  // and back
};

TEST_F(PromptInPlaceTest, NothingIsCopied) {
  const std::string prompt = Text(100);
  const PromptResult first = Run(prompt);
  // 163 tokens: ten full chunks, and a leaf of 3 tokens, which nobody reads afterwards.
  EXPECT_EQ(first.stored_chunks, 11u);
  EXPECT_EQ(first.written_in_place, 11u);
  EXPECT_EQ(first.in_place.blocks_viewed, 10 * planes());
  EXPECT_EQ(first.in_place.bytes_copied, 0u);
  const PromptResult second = Run(prompt);
  EXPECT_EQ(second.chunks_reused, 6u);
  EXPECT_EQ(second.in_place.blocks_viewed, 10 * planes());
  EXPECT_EQ(second.in_place.bytes_copied, 0u);
  // Four chunks of the answer it wrote, and then read where the first run had left them.
  EXPECT_EQ(second.existing_chunks, 5u);
  EXPECT_EQ(second.in_place.moves, 0u);
  EXPECT_EQ(first.generated, Reference(prompt));
  EXPECT_EQ(second.generated, first.generated);
  EXPECT_EQ(faulty_.leases_open, 0);
}

TEST_F(PromptInPlaceTest, BlocksAreFollowedWhenTheyMove) {
  const std::string prompt = Text(100);
  Run(prompt);
  size_t steps = 0;
  faulty_.on_fetch = [&](KvTable& kv) { Follow(kv); };
  faulty_.on_begin = [&](KvTable& kv) {
    ++steps;
    for (size_t c = 0; c < kv.chunks(); ++c) {
      if (kv.memory(c) == ChunkMemory::kViewed && (c + steps) % 3 == 0) Move(kv, c);
    }
  };
  const PromptResult result = Run(prompt + "?");
  EXPECT_EQ(result.generated, Reference(prompt + "?"));
  EXPECT_GE(result.in_place.moved_between_reads, 6 * planes());
  EXPECT_GT(result.in_place.moves, 5 * result.in_place.moved_between_reads);
  EXPECT_EQ(result.in_place.bytes_copied, 0u);
}

TEST_F(PromptInPlaceTest, ALostChunkIsComputedAgainAndNothingElse) {
  const std::string prompt = Text(100);
  Run(prompt);
  for (const size_t lost : {0, 3, 5}) {
    size_t steps = 0;
    faulty_.on_begin = [&](KvTable& kv) {
      if (++steps == 20) {
        ASSERT_EQ(kv.memory(lost), ChunkMemory::kViewed);
        kv.Lose(lost, Damaged());
      }
    };
    const PromptResult result = Run(prompt);
    EXPECT_EQ(result.generated, Reference(prompt)) << lost;
    EXPECT_EQ(result.recomputed_chunks, 1u);
    EXPECT_EQ(result.data_loss, 1u);
    EXPECT_EQ(result.store_errors.at("DATA_LOSS"), 1u);
  }
}

// The daemon is gone, at each step in turn: what was in its memory is computed again, the chunk
// that is being written included, and the worker goes on by itself.
TEST_F(PromptInPlaceTest, EverythingLostAtAnyStepCostsNoAnswer) {
  const std::string prompt = Text(100);
  Run(prompt);
  const std::vector<uint8_t> reference = Reference(prompt + "!");
  for (size_t last = 1; last < 80; last += 3) {
    LocalKvStore base({.geometry = Geometry()});
    FaultyStore store(base);
    Run(prompt, store);
    size_t steps = 0;
    store.on_begin = [&](KvTable& kv) {
      if (++steps < last) return;
      store.down = absl::UnavailableError("gone");
      for (size_t c = 0; c < kv.chunks(); ++c) kv.Lose(c, store.down);
    };
    const PromptResult result = Run(prompt + "!", store);
    EXPECT_EQ(result.generated, reference) << last;
    if (steps >= last) {
      EXPECT_GT(result.private_chunks, 0u) << last;
    }
  }
}

TEST_F(PromptInPlaceTest, RefusedCommitsLeaveCopies) {
  const std::string prompt = Text(100);
  faulty_.commit_status = absl::InternalError("broken");
  const PromptResult result = Run(prompt);
  EXPECT_EQ(result.generated, Reference(prompt));
  EXPECT_EQ(result.stored_chunks, 0u);
  EXPECT_GE(result.in_place.bytes_copied, 6 * Geometry().chunk_bytes());
  EXPECT_EQ(local_.bytes(), 0u) << "nothing stays reserved";
}

TEST_F(PromptInPlaceTest, WhatNoLeaseKeepsIsCopiedWhenItIsCommitted) {
  const std::string prompt = Text(100);
  faulty_.acquire_status = absl::ResourceExhaustedError("too many leases");
  const PromptResult result = Run(prompt);
  EXPECT_EQ(result.generated, Reference(prompt));
  EXPECT_EQ(result.written_in_place, 11u);
  EXPECT_EQ(result.in_place.blocks_viewed, 0u);
  EXPECT_EQ(result.in_place.bytes_copied, 10 * Geometry().chunk_bytes());
}

TEST_F(PromptInPlaceTest, ChunksWithoutRoomInPlaceAreStoredByCopy) {
  const std::string prompt = Text(100);
  faulty_.buffers_max = 1;
  const PromptResult result = Run(prompt);
  EXPECT_EQ(result.generated, Reference(prompt));
  EXPECT_EQ(result.stored_chunks, 11u);
  EXPECT_EQ(result.written_in_place, 5u) << "the first of the prompt, and those of the answer";
  EXPECT_EQ(Run(prompt).chunks_reused, 6u);
}

// Half a chunk is leased, and its other half written: the only bytes of a prefix that are copied.
TEST_F(PromptInPlaceTest, APartialChunkIsCopiedIntoTheRoomItGrowsIn) {
  const std::string prompt = Text(20);
  const PromptResult first = Run(prompt, faulty_, {.tokens_max = 8});
  const std::string conversation =
      prompt + std::string(first.generated.begin(), first.generated.end());
  const PromptResult next = Run(conversation);
  EXPECT_EQ(next.chunks_reused, 2u);
  EXPECT_EQ(next.generated, Reference(conversation));
  EXPECT_EQ(next.in_place.bytes_copied, 11 * planes() * Geometry().token_bytes());
}

}  // namespace
}  // namespace kvtier::examples
