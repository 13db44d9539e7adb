// Proves what a worker does with a store: it reuses what is there, stores what is new, the partial
// tail included, and whatever the store refuses, loses or damages, the answer has the same bits as
// one computed from nothing. Faults are injected by a store that wraps LocalKvStore.

#include "client/examples/prompt_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "client/examples/local_kv_store.h"
#include "client/examples/run_report.h"
#include "tests/unit/examples/faulty_store.h"

namespace kvtier::examples {
namespace {

// With blocks in place, and with copies.
class PromptRunnerTest : public ::testing::TestWithParam<bool> {
 protected:
  PromptResult Run(const std::string& prompt, PromptRunner::Options options = {}) {
    return Run(prompt, options, faulty_);
  }
  PromptResult Run(const std::string& prompt, const PromptRunner::Options& options,
                   KvStore& store) {
    PromptRunner runner(TestWeights(), Geometry(), store, pauses_, options);
    return runner.Run(prompt);
  }
  // The answer without any store to help or disturb.
  std::vector<uint8_t> Reference(const std::string& prompt, size_t tokens = 96) {
    LocalKvStore fresh({.geometry = Geometry()});
    return Run(prompt, {.tokens_max = tokens, .reuse = false}, fresh).generated;
  }

  PausePoints pauses_;
  LocalKvStore local_{{.geometry = Geometry(), .in_place = GetParam()}};
  FaultyStore faulty_{local_};
};

TEST_P(PromptRunnerTest, SharedPrefixesAreReusedAndTheAnswerIsTheSame) {
  const std::string prefix = Text(100);
  const PromptResult first = Run(prefix + "one");
  EXPECT_EQ(first.chunks_total, 7u);
  EXPECT_EQ(first.chunks_reused, 0u);
  // 103 prompt tokens and 95 of 96 generated ones have KV: 12 full chunks and a tail of 6 tokens.
  EXPECT_EQ(first.stored_chunks, 13u);
  EXPECT_EQ(local_.chunks(), 13u);
  EXPECT_EQ(first.private_chunks, 0u);
  EXPECT_EQ(first.generated.size(), 96u);

  const PromptResult second = Run(prefix + "another one");
  EXPECT_EQ(second.chunks_reused, 6u);
  EXPECT_EQ(second.fetched_bytes_by_pool.at("local"), 6 * Geometry().chunk_bytes());
  EXPECT_EQ(second.generated, Reference(prefix + "another one"));
  EXPECT_EQ(first.generated, Reference(prefix + "one"));
  EXPECT_EQ(faulty_.leases_open, 0);
}

TEST_P(PromptRunnerTest, TheSamePromptIsReusedUpToItsLastToken) {
  for (const size_t size : {1, 2, 16, 17, 32, 33, 50}) {
    const std::string prompt = Text(size, static_cast<char>(size));
    const std::vector<uint8_t> reference = Reference(prompt, 40);
    EXPECT_EQ(Run(prompt, {.tokens_max = 40}).generated, reference) << size;
    const PromptResult again = Run(prompt, {.tokens_max = 40});
    EXPECT_EQ(again.generated, reference) << size;
    EXPECT_EQ(again.chunks_reused, (size - 1) / kChunkTokens) << size;
    EXPECT_EQ(again.stored_chunks, 0u) << size;
  }
}

TEST_P(PromptRunnerTest, ThePartialTailIsFoundByWhoContinuesFromIt) {
  const std::string prompt = Text(20);
  const PromptResult first = Run(prompt, {.tokens_max = 8});
  EXPECT_EQ(first.stored_chunks, 2u);  // 16 tokens, and a leaf of 11
  const std::string conversation =
      prompt + std::string(first.generated.begin(), first.generated.end());
  const PromptResult next = Run(conversation, {.tokens_max = 30});
  EXPECT_EQ(next.chunks_total, 2u);
  EXPECT_EQ(next.chunks_reused, 2u);
  EXPECT_EQ(next.generated, Reference(conversation, 30));
}

TEST_P(PromptRunnerTest, Bf16KvIsReusedToTheBit) {
  LocalKvStore store({.geometry = Geometry(KvType::kBfloat16), .in_place = GetParam()});
  PromptRunner runner(TestWeights(), Geometry(KvType::kBfloat16), store, pauses_,
                      {.tokens_max = 48});
  const PromptResult first = runner.Run(Text(90));
  const PromptResult second = runner.Run(Text(90));
  EXPECT_EQ(second.chunks_reused, 5u);
  EXPECT_EQ(first.generated, second.generated);
}

TEST_P(PromptRunnerTest, DamagedBlocksAreRecomputed) {
  const std::string prompt = Text(100);
  const std::vector<uint8_t> reference = Run(prompt).generated;
  faulty_.damaged_chunk = 3;
  const PromptResult damaged = Run(prompt);
  EXPECT_EQ(damaged.data_loss, 1u);
  EXPECT_EQ(damaged.chunks_reused, 3u);
  EXPECT_EQ(damaged.recomputed_chunks, 3u);
  EXPECT_EQ(damaged.store_errors.at("DATA_LOSS"), 1u);
  EXPECT_EQ(damaged.generated, reference);
  EXPECT_EQ(faulty_.leases_open, 0);
  faulty_.damaged_chunk = 0;
  const PromptResult all = Run(prompt);
  EXPECT_EQ(all.chunks_reused, 0u);
  EXPECT_EQ(all.generated, reference);
  EXPECT_EQ(faulty_.leases_open, 0);
}

TEST_P(PromptRunnerTest, AFullStoreLeavesChunksPrivate) {
  const std::string prompt = Text(100);
  LocalKvStore small(
      {.geometry = Geometry(), .bytes_max = 5 * Geometry().chunk_bytes(), .in_place = GetParam()});
  const PromptResult result = Run(prompt, {}, small);
  EXPECT_EQ(result.stored_chunks, 5u);
  EXPECT_EQ(result.private_chunks, 8u);
  EXPECT_EQ(result.private_reason, "RESOURCE_EXHAUSTED");
  EXPECT_EQ(result.generated, Reference(prompt));
  EXPECT_EQ(small.bytes(), 5 * Geometry().chunk_bytes());
}

TEST_P(PromptRunnerTest, ChunksRefusedOnceAreOfferedAgain) {
  faulty_.on_reserve = [this](size_t) {
    return faulty_.reserves <= 2 ? absl::ResourceExhaustedError("full") : absl::OkStatus();
  };
  const PromptResult result = Run(Text(100));
  EXPECT_EQ(result.store_errors.at("RESOURCE_EXHAUSTED"), 1u);
  EXPECT_EQ(result.private_chunks, 0u);
  EXPECT_EQ(local_.chunks(), 13u);
}

TEST_P(PromptRunnerTest, ADeadDaemonCostsFewCallsAndNoAnswer) {
  const std::string prompt = Text(400);
  faulty_.down = absl::UnavailableError("no daemon answers");
  const PromptResult result = Run(prompt);
  EXPECT_EQ(result.generated, Reference(prompt));
  EXPECT_EQ(result.stored_chunks, 0u);
  EXPECT_EQ(result.private_chunks, 31u);
  EXPECT_EQ(result.private_reason, "UNAVAILABLE");
  EXPECT_LE(faulty_.reserves, 8u);
  EXPECT_LE(result.store_errors.at("UNAVAILABLE"), 8u);
  EXPECT_EQ(result.last_error, "no daemon answers");
}

TEST_P(PromptRunnerTest, ADaemonThatDiesWhileALeaseIsHeldCostsNoAnswer) {
  const std::string prompt = Text(100);
  const std::vector<uint8_t> reference = Run(prompt).generated;
  faulty_.on_reserve = [this](size_t) {
    faulty_.down = absl::UnavailableError("gone");
    return faulty_.down;
  };
  const PromptResult result = Run(prompt + "x");
  EXPECT_EQ(result.chunks_reused, 6u);
  EXPECT_EQ(result.generated, Reference(prompt + "x"));
  EXPECT_GT(result.private_chunks, 0u);
}

TEST_P(PromptRunnerTest, AnEvictedParentIsStoredAgain) {
  // A restarted daemon: from the fourth reservation on, another, empty store answers.
  LocalKvStore empty({.geometry = Geometry(), .in_place = GetParam()});
  FaultyStore second(empty);
  struct Router : KvStore {
    FaultyStore* to;
    FaultyStore* after;
    size_t reserves_left = 3;
    absl::StatusOr<ChunkKey> Key(const ChunkKey& p, std::span<const uint32_t> t) override {
      return to->Key(p, t);
    }
    absl::StatusOr<Lease> Acquire(const std::vector<ChunkKey>& k) override {
      return to->Acquire(k);
    }
    absl::StatusOr<FetchResult> Fetch(const Lease& l, KvTable& kv) override {
      return to->Fetch(l, kv);
    }
    bool in_place() const override { return to->in_place(); }
    void BeginStep(KvTable& kv) override { to->BeginStep(kv); }
    void EndStep() override { to->EndStep(); }
    std::vector<std::byte*> Buffers(ReservationId r, size_t c) override {
      return to->Buffers(r, c);
    }
    absl::Status Report(const Lease& l, const AttentionMass& m, size_t s) override {
      return to->Report(l, m, s);
    }
    absl::Status Release(LeaseId l) override { return to->Release(l); }
    absl::StatusOr<ReservationId> Reserve(const ChunkKey& p, size_t c) override {
      if (reserves_left-- == 0) to = after;
      return to->Reserve(p, c);
    }
    absl::Status Store(ReservationId r, const std::vector<StoreBlock>& b) override {
      return to->Store(r, b);
    }
    absl::StatusOr<std::vector<CommitOutcome>> Commit(
        ReservationId r, const std::vector<ChunkCommitment>& c) override {
      return to->Commit(r, c);
    }
    absl::Status Abort(ReservationId r) override { return to->Abort(r); }
  } router;
  router.to = &faulty_;
  router.after = &second;
  const PromptResult result = Run(Text(100), {}, router);
  EXPECT_EQ(result.store_errors.at("FAILED_PRECONDITION"), 1u);
  EXPECT_EQ(result.private_chunks, 0u);
  EXPECT_EQ(empty.chunks(), 13u);
  EXPECT_EQ(result.generated, Reference(Text(100)));
}

TEST_P(PromptRunnerTest, AFailedStoreIsAborted) {
  faulty_.store_status = faulty_.commit_status = absl::InternalError("broken");
  const PromptResult result = Run(Text(40));
  EXPECT_EQ(result.stored_chunks, 0u);
  EXPECT_EQ(local_.bytes(), 0u);
  EXPECT_EQ(result.generated, Reference(Text(40)));
}

TEST_P(PromptRunnerTest, ReportsCoverTheLeaseLayerByLayer) {
  const std::string prompt = Text(100);
  Run(prompt);
  // Nothing was leased, but for what is read where it was written.
  EXPECT_EQ(faulty_.reported.empty(), !GetParam());
  faulty_.reported.clear();
  const PromptResult result = Run(prompt, {.tokens_max = 41, .report_every = 16});
  // One for prefill, then after 16, 32 and 40 decode steps.
  ASSERT_EQ(faulty_.reported.size(), 4u);
  EXPECT_EQ(result.reports, 4u);
  const std::vector<size_t> steps = {1, 16, 16, 8};
  for (size_t i = 0; i < 4; ++i) {
    const FaultyStore::Reported& reported = faulty_.reported[i];
    EXPECT_EQ(reported.chunks, GetParam() ? std::min<size_t>(6 + i, 8) : 6u);
    EXPECT_EQ(reported.steps, steps[i]);
    EXPECT_EQ(reported.mass.queries, i == 0 ? 4u : steps[i]);
    ASSERT_EQ(reported.mass.layer_chunk.size(), 3u);
    for (const std::vector<float>& row : reported.mass.layer_chunk) {
      ASSERT_GE(row.size(), 6u);
      for (size_t c = 0; c < 6; ++c) EXPECT_GT(row[c], 0.0f);
    }
  }
  faulty_.reported.clear();
  Run(prompt, {.report_every = 0});
  EXPECT_TRUE(faulty_.reported.empty());
}

TEST_P(PromptRunnerTest, NothingIsLookedUpWithoutReuse) {
  Run(Text(60));
  const PromptResult result = Run(Text(60), {.reuse = false});
  EXPECT_EQ(result.chunks_reused, 0u);
  EXPECT_EQ(result.stored_chunks, 0u);
  EXPECT_EQ(result.existing_chunks, 10u);
  EXPECT_EQ(result.private_chunks, 0u);
}

TEST_P(PromptRunnerTest, ReportsInJsonAndInWords) {
  const PromptResult first = Run(Text(100), {.tokens_max = 4});
  const PromptResult second = Run(Text(100), {.tokens_max = 4});
  const auto json = RunJson({.store = "local",
                             .transport = "local",
                             .fingerprint = "f",
                             .geometry = Geometry(),
                             .seconds = 1.5},
                            {{"text 1", 1, first}, {"text 1", 2, second}});
  EXPECT_EQ(json["prompts"].size(), 2u);
  EXPECT_EQ(json["prompts"][1]["chunks_reused"], 6);
  EXPECT_EQ(json["prompts"][1]["generated"].get<std::string>().size(), 8u);
  EXPECT_EQ(json["totals"]["chunks_total"], 14);
  EXPECT_EQ(json["totals"]["chunks_reused"], 6);
  EXPECT_EQ(json["totals"]["fetched_bytes_by_pool"]["local"], 6 * Geometry().chunk_bytes());
  EXPECT_THAT(PromptLine({"text 1", 2, second}),
              ::testing::HasSubstr("100 tokens, 6 of 7 chunks reused"));
}

INSTANTIATE_TEST_SUITE_P(All, PromptRunnerTest, ::testing::Bool());

}  // namespace
}  // namespace kvtier::examples
