// Readers in a shared index while its writer adds, moves and removes rows as fast as it can: what a
// section found stays that until its end, and a key that never goes is found every time, however
// many buckets are split meanwhile. Every word names the key that it belongs to, so a line that is
// used again too early shows.
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/client_page.h"
#include "proto/wire/index_reader.h"
#include "proto/wire/section_protocol.h"
#include "tests/support/index_memory.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"
#include "tiering/share/reader_sections.h"
#include "tiering/share/tenant_share.h"

namespace kvtier {
namespace {

using wire::IndexReader;
using wire::ResidencyWord;

constexpr uint64_t kSteady = 64;       // keys 0..63 never go
constexpr uint64_t kPassing = 512;     // keys after those come and go
constexpr uint64_t kFillers = 20'000;  // and more come, so that buckets are split
constexpr uint16_t kPlanes = 3;
constexpr int kReaders = 2;

wire::ChunkKey KeyOf(uint64_t number) {
  wire::ChunkKey key;
  const uint64_t words[] = {Rng(number).Next(), Rng(~number).Next()};
  std::memcpy(key.bytes.data(), words, sizeof(words));
  return key;
}

class Writer {
 public:
  Writer(TenantShare* share, const wire::ClientPage* page) : share_(share) {
    sections_.Add(ShmClientId(1), page);
    for (uint64_t number = 0; number < kSteady; ++number) Add(number);
  }

  // Adds every filler, with moves and comings and goings of the others in between.
  void Run(Rng rng) {
    std::vector<uint32_t> passing(kPassing, TenantShare::kNoLine);
    for (uint64_t filler = 0; filler < kFillers; ++filler) {
      Add(kSteady + kPassing + filler);
      for (int i = 0; i < 3; ++i) {
        const uint64_t at = rng.Below(kPassing);
        if (passing[at] == TenantShare::kNoLine) {
          passing[at] = Add(kSteady + at);
        } else if (rng.OneIn(2)) {
          Move(kSteady + at, passing[at], rng);
        } else {
          Remove(passing[at]);
          passing[at] = TenantShare::kNoLine;
        }
      }
      if (filler % 8 != 0) continue;
      wire::FenceBeforeScan();
      share_->Reclaim(sections_.Oldest());
    }
  }

 private:
  static ResidencyWord WordOf(uint64_t number, uint32_t version) {
    return ResidencyWord(static_cast<uint32_t>(number), 1 + version % 1000);
  }
  uint32_t Add(uint64_t number) {
    const uint32_t line = share_->AddRow({.key = KeyOf(number),
                                          .model = ModelId(1),
                                          .planes = kPlanes,
                                          .token_count = 4,
                                          .parent = TenantShare::kNoLine,
                                          .row = static_cast<RowIndex>(number)});
    EXPECT_NE(line, TenantShare::kNoLine);
    for (uint32_t plane = 0; plane < kPlanes; ++plane)
      share_->SetBlock(line, plane, {WordOf(number, 0), {}, number}, false);
    EXPECT_TRUE(share_->Show(line));
    return line;
  }
  void Move(uint64_t number, uint32_t line, Rng& rng) {
    const auto version = static_cast<uint32_t>(rng.Next());
    share_->SetBlock(line, static_cast<uint32_t>(rng.Below(kPlanes)),
                     {WordOf(number, version), {}, number}, true);
  }
  void Remove(uint32_t line) {
    share_->Hide(line);
    for (uint32_t plane = 0; plane < kPlanes; ++plane) share_->SetBlock(line, plane, {}, true);
    share_->RemoveRow(line);
  }

  TenantShare* share_;
  ReaderSections sections_;
};

struct Outcome {
  uint64_t sections = 0, held = 0, missed = 0, wrong = 0;
};

Outcome ReadUntil(const std::atomic<bool>& done, const IndexReader& index, wire::ClientPage& page,
                  size_t place, Rng rng) {
  constexpr size_t kKeys = 24;
  Outcome outcome;
  std::vector<wire::ChunkKey> keys(kKeys);
  std::vector<uint64_t> numbers(kKeys);
  std::vector<IndexReader::Row> rows(kKeys);
  while (!done.load(std::memory_order_acquire) || outcome.sections == 0) {
    for (size_t i = 0; i < kKeys; ++i) {
      numbers[i] = i % 3 == 0 ? rng.Below(kSteady) : kSteady + rng.Below(kPassing);
      keys[i] = KeyOf(numbers[i]);
    }
    wire::EnterSection(index.retire_epoch(), page, place);
    index.FindAll(keys, 1, absl::MakeSpan(rows));
    for (int look = 0; look < 4; ++look) {
      for (size_t i = 0; i < kKeys; ++i) {
        if (!rows[i]) {
          outcome.missed += numbers[i] < kSteady;
          continue;
        }
        ++outcome.held;
        for (uint32_t plane = 0; plane < kPlanes; ++plane) {
          const ResidencyWord word = IndexReader::Resolve(rows[i], plane);
          outcome.wrong += word.valid() && word.copy_bits() != numbers[i];
        }
      }
    }
    wire::LeaveSection(page.sections[place].section);
    ++outcome.sections;
  }
  return outcome;
}

TEST(SharedIndexThreadsTest, SectionsKeepWhatTheyFoundAndSteadyKeysAreAlwaysFound) {
  const uint64_t seed = test_support::TestSeed(1);
  const IndexLimits limits{.chunks_max = 30'000, .blocks_max = 100'000};
  test_support::IndexMemory memory(TenantShare::BytesFor(limits));
  auto share = TenantShare::Create({.memory = memory.bytes(), .limits = limits, .hash_seed = seed});
  ASSERT_TRUE(share.ok());
  auto page = std::make_unique<wire::ClientPage>();
  Writer writer(share->get(), page.get());
  std::string why;
  const std::optional<IndexReader> index = IndexReader::Create(memory.bytes(), why);
  ASSERT_TRUE(index.has_value()) << why;

  std::atomic<bool> done{false};
  std::vector<Outcome> outcomes(kReaders);
  std::vector<std::thread> readers;
  for (size_t i = 0; i < kReaders; ++i) {
    readers.emplace_back(
        [&, i] { outcomes[i] = ReadUntil(done, *index, *page, i, Rng(seed + 1 + i)); });
  }
  writer.Run(Rng(seed));
  done.store(true, std::memory_order_release);
  for (std::thread& reader : readers) reader.join();
  for (const Outcome& outcome : outcomes) {
    EXPECT_GT(outcome.held, 0u);
    EXPECT_EQ(outcome.missed, 0u) << "a key that is always there was not found";
    EXPECT_EQ(outcome.wrong, 0u) << "a row that a section held became another's";
  }
  EXPECT_EQ((*share)->refusals(), 0u);
}

// Tables that grow from one bucket on, so that most lookups meet a split: a reader that looks in
// the old bucket and misses what was just moved must look again.
TEST(SharedIndexThreadsTest, NoSplitHidesAKey) {
  constexpr uint64_t kTables = 400, kFirst = 4, kRows = 96;
  static constexpr IndexLimits kLimits{.chunks_max = 128, .blocks_max = 128};
  struct Table {
    test_support::IndexMemory memory{TenantShare::BytesFor(kLimits)};
    std::unique_ptr<TenantShare> share;
    std::optional<IndexReader> reader;
  };
  const auto add = [](TenantShare& share, uint64_t number) {
    const uint32_t line = share.AddRow({.key = KeyOf(number),
                                        .model = ModelId(1),
                                        .planes = 1,
                                        .token_count = 4,
                                        .parent = TenantShare::kNoLine,
                                        .row = static_cast<RowIndex>(number)});
    ASSERT_TRUE(share.Show(line));
  };
  std::vector<std::unique_ptr<Table>> tables;
  for (uint64_t i = 0; i < kTables; ++i) {
    tables.push_back(std::make_unique<Table>());
    Table& table = *tables.back();
    auto share =
        TenantShare::Create({.memory = table.memory.bytes(), .limits = kLimits, .hash_seed = i});
    ASSERT_TRUE(share.ok());
    table.share = *std::move(share);
    for (uint64_t number = 0; number < kFirst; ++number) add(*table.share, number);
    std::string why;
    table.reader = IndexReader::Create(table.memory.bytes(), why);
    ASSERT_TRUE(table.reader.has_value()) << why;
  }
  std::atomic<uint64_t> at{0}, met{0};
  uint64_t found = 0, missed = 0;
  std::thread reader([&] {
    for (uint64_t table = 0; table < kTables; table = at.load(std::memory_order_acquire)) {
      for (uint64_t number = 0; number < kFirst; ++number)
        (tables[table]->reader->Find(KeyOf(number), 1) ? found : missed) += 1;
      met.store(table, std::memory_order_release);
    }
  });
  for (uint64_t table = 0; table < kTables; ++table) {
    at.store(table, std::memory_order_release);
    while (met.load(std::memory_order_acquire) != table) std::this_thread::yield();
    for (uint64_t number = kFirst; number < kRows; ++number) add(*tables[table]->share, number);
  }
  at.store(kTables, std::memory_order_release);
  reader.join();
  EXPECT_GT(found, kTables);
  EXPECT_EQ(missed, 0u);
}

}  // namespace
}  // namespace kvtier
