// A tenant's shared index beside a map: random rows come, show, move, hide and go while sections
// are open, and after every step wire::IndexReader over the same memory finds exactly what the map
// has. Growth through many splits, full chains, the end of the overflow buckets and of the lines,
// lines that are used again, and names that are no longer valid. KVTIER_TEST_SEED=n repeats a run.
#include "tiering/share/tenant_share.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/index_reader.h"
#include "proto/wire/section_protocol.h"
#include "tests/support/index_memory.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier {
namespace {

using test_support::IndexMemory;
using wire::IndexReader;
using wire::ResidencyWord;

constexpr uint32_t kNoLine = TenantShare::kNoLine;

wire::ChunkKey KeyOf(uint64_t number) {
  wire::ChunkKey key;
  const uint64_t words[] = {Rng(number).Next(), Rng(~number).Next()};
  std::memcpy(key.bytes.data(), words, sizeof(words));
  return key;
}

struct Index {
  explicit Index(const IndexLimits& limits, uint64_t seed = 7)
      : memory(TenantShare::BytesFor(limits)) {
    auto made = TenantShare::Create(
        {.memory = memory.bytes(), .limits = limits, .daemon_epoch = 3, .hash_seed = seed});
    EXPECT_TRUE(made.ok()) << made.status();
    share = *std::move(made);
    std::string why;
    reader = IndexReader::Create(memory.bytes(), why);
    EXPECT_TRUE(reader.has_value()) << why;
  }

  uint32_t Add(uint64_t number, uint16_t planes, uint16_t model = 0) {
    return share->AddRow({.key = KeyOf(number),
                          .model = ModelId(model),
                          .planes = planes,
                          .token_count = 16,
                          .parent = kNoLine,
                          .row = static_cast<RowIndex>(number)});
  }
  // Every entry of the table is in the chain that its hash names, once, and chains are short.
  uint64_t Audit() const {
    const auto* header = reinterpret_cast<const wire::IndexHeader*>(memory.bytes().data());
    const auto at = [&](uint64_t offset) {
      return reinterpret_cast<const wire::IndexBucket*>(memory.bytes().data() + offset);
    };
    const wire::IndexBucket* buckets = at(header->buckets_offset);
    const wire::IndexBucket* overflow = at(header->overflow_offset);
    const uint64_t count = header->bucket_count.load();
    std::set<uint32_t> lines;
    std::set<uint64_t> links;
    uint64_t entries = 0;
    for (uint64_t number = 0; number < count; ++number) {
      uint32_t length = 1;
      for (const wire::IndexBucket* bucket = &buckets[number];; ++length) {
        for (const auto& place : bucket->entries) {
          const uint64_t entry = place.load();
          if (entry == 0) continue;
          ++entries;
          const uint32_t line = static_cast<uint32_t>(entry) - 1;
          EXPECT_TRUE(lines.insert(line).second) << "line " << line << " is in the table twice";
          const auto& row = *reinterpret_cast<const wire::RowHeader*>(
              memory.bytes().data() + header->rows_offset + uint64_t{line} * wire::kLineBytes);
          const uint64_t hash = wire::KeyHash(row.key[0].load(), row.key[1].load(),
                                              row.shape.load() >> 16 & 0xffff, header->hash_seed);
          EXPECT_EQ(wire::BucketOf(hash, count), number);
          EXPECT_EQ(entry >> 32, hash >> 32);
        }
        const uint64_t next = bucket->next.load();
        if (next == 0) break;
        EXPECT_TRUE(links.insert(next).second) << "overflow bucket in two chains";
        bucket = &overflow[next - 1];
      }
      EXPECT_LE(length, wire::kChainMax);
    }
    return entries;
  }

  IndexMemory memory;
  std::unique_ptr<TenantShare> share;
  std::optional<IndexReader> reader;
};

TEST(TenantShareTest, RefusesMemoryThatIsTooSmallOrNotAligned) {
  const IndexLimits limits{.chunks_max = 100, .blocks_max = 400};
  const Bytes needed = TenantShare::BytesFor(limits);
  IndexMemory memory(needed + KiB(4));
  auto small = TenantShare::Create(
      {.memory = memory.bytes().subspan(0, static_cast<size_t>(needed.count()) - 1),
       .limits = limits});
  EXPECT_EQ(small.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(small.status().message()),
              testing::HasSubstr(std::to_string(needed.count())));
  auto odd = TenantShare::Create({.memory = memory.bytes().subspan(64), .limits = limits});
  EXPECT_EQ(odd.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(TenantShareTest, ARowIsFoundWhileItShowsAndByNameUntilItGoes) {
  Index index({.chunks_max = 100, .blocks_max = 400});
  const uint32_t parent = index.Add(1, 1);
  const uint32_t line = index.share->AddRow({.key = KeyOf(2),
                                             .model = ModelId(9),
                                             .planes = 3,
                                             .token_count = 5,
                                             .parent = parent,
                                             .row = 77});
  EXPECT_FALSE(index.reader->Find(KeyOf(2), 9));
  index.share->SetBlock(line, 1, {ResidencyWord(5, 6), ResidencyWord(7, 8), 99}, false);
  ASSERT_TRUE(index.share->Show(line));
  const IndexReader::Row row = index.reader->Find(KeyOf(2), 9);
  ASSERT_TRUE(row);
  EXPECT_EQ(row.planes, 3);
  EXPECT_EQ(IndexReader::Resolve(row, 0), ResidencyWord());
  EXPECT_EQ(IndexReader::Resolve(row, 1), ResidencyWord(5, 6));
  EXPECT_EQ(row.plane(1).second.load(), ResidencyWord(7, 8).bits());
  EXPECT_EQ(row.plane(1).checksum.load(), 99u);
  EXPECT_EQ(row.header->shape.load(), wire::PackShape(5, 3, 9, wire::kRowVisible));
  EXPECT_EQ(row.header->identity.load(), wire::PackIdentity(row.generation, parent + 1));
  EXPECT_FALSE(index.reader->Find(KeyOf(2), 8)) << "another model's";
  const uint64_t name = index.share->NameOf(line);
  EXPECT_EQ(row.name(), name);
  EXPECT_EQ(index.share->RowOf(name), 77u);

  index.share->Hide(line);
  index.share->Hide(line);
  EXPECT_FALSE(index.reader->Find(KeyOf(2), 9));
  EXPECT_TRUE(index.reader->At(name));
  index.share->SetBlock(line, 1, {}, true);
  index.share->RemoveRow(line);
  EXPECT_FALSE(index.reader->At(name)) << "before its lines are used again";
  EXPECT_EQ(index.share->RowOf(name), kNoRow);
  for (const uint64_t nonsense : {uint64_t{0}, ~uint64_t{0}, name + 1, uint64_t{1} << 40})
    EXPECT_EQ(index.share->RowOf(nonsense), kNoRow) << nonsense;
}

TEST(TenantShareTest, LinesWaitForSectionsAndComeBackUnderAnotherName) {
  Index index({.chunks_max = 100, .blocks_max = 400});
  const uint32_t line = index.Add(1, 4);
  const uint64_t name = index.share->NameOf(line);
  const uint64_t entered = index.share->retire_epoch().load();
  index.share->RemoveRow(line);
  EXPECT_TRUE(index.share->waits());
  index.share->Reclaim(entered);  // a section that may hold the row
  EXPECT_NE(index.Add(2, 4), line);
  index.share->Reclaim(index.share->retire_epoch().load());  // one that came later
  EXPECT_FALSE(index.share->waits());
  EXPECT_NE(index.Add(3, 1), line) << "a row of another length";
  ASSERT_EQ(index.Add(4, 4), line);
  EXPECT_NE(index.share->NameOf(line), name);
  EXPECT_EQ(index.share->RowOf(name), kNoRow);
}

TEST(TenantShareTest, MovesAreLogged) {
  Index index({.chunks_max = 100, .blocks_max = 400});
  const uint32_t line = index.Add(1, 4);
  wire::RelocationReader log = index.reader->NewRelocationReader();
  const ResidencyWord a(1, 1), b(2, 1);
  index.share->SetBlock(line, 2, {a, {}, 9}, false);  // nobody can have seen it before
  index.share->SetBlock(line, 2, {b, a, 9}, true);
  index.share->SetBlock(line, 2, {b, {}, 9}, true);  // the best one stays
  index.share->SetBlock(line, 2, {}, true);
  std::vector<uint64_t> words;
  EXPECT_TRUE(log.Read([&](const wire::Relocation& moved) {
    EXPECT_EQ(moved.row, index.share->NameOf(line));
    EXPECT_EQ(moved.plane, 2u);
    words.push_back(moved.word.bits());
  }));
  EXPECT_THAT(words, testing::ElementsAre(b.bits(), 0));
}

TEST(TenantShareTest, WhatDoesNotFitIsCountedAndTheRestIsFound) {
  // Room for many lines, but for 4 buckets only: chains fill.
  Index index({.chunks_max = 8, .blocks_max = 20'000});
  std::vector<uint32_t> shown, refused;
  for (uint64_t i = 0; i < 1000; ++i) {
    const uint32_t line = index.Add(i, 1);
    ASSERT_NE(line, kNoLine);
    (index.share->Show(line) ? shown : refused).push_back(line);
  }
  EXPECT_GT(shown.size(), 4 * 30u);
  EXPECT_LE(shown.size(), 4 * 7 * wire::kChainMax);
  EXPECT_EQ(index.share->refusals(), refused.size());
  EXPECT_EQ(index.Audit(), shown.size());
  for (const uint32_t line : refused) index.share->Hide(line);
  for (const uint32_t line : shown) index.share->Hide(line);
  EXPECT_EQ(index.Audit(), 0u);
  EXPECT_TRUE(index.share->waits()) << "overflow buckets, for readers that may be in them";
  index.share->Reclaim(wire::kNoSection);
  // And all of it again: nothing leaked.
  size_t again = 0;
  for (const uint32_t line : shown) again += index.share->Show(line);
  EXPECT_EQ(again, shown.size());
}

TEST(TenantShareTest, TheOverflowBucketsEnd) {
  // 1024 buckets and 576 for overflow.
  Index index({.chunks_max = 4095, .blocks_max = 100'000});
  uint64_t shown = 0;
  for (uint64_t i = 0; i < 20'000; ++i) {
    const uint32_t line = index.Add(i, 1);
    ASSERT_NE(line, kNoLine);
    shown += index.share->Show(line);
  }
  EXPECT_GT(shown, 8000u);
  EXPECT_LT(shown, (1024 + 576) * 7u);
  EXPECT_EQ(index.Audit(), shown);
  uint64_t found = 0;
  for (uint64_t i = 0; i < 20'000; ++i) found += bool{index.reader->Find(KeyOf(i), 0)};
  EXPECT_EQ(found, shown);
}

TEST(TenantShareTest, TheLinesEnd) {
  Index index({.chunks_max = 10, .blocks_max = 10});
  uint64_t added = 0;
  while (index.Add(added, 1) != kNoLine) ASSERT_LT(++added, 1000u);
  EXPECT_GE(added, 10u);
  EXPECT_EQ(index.share->refusals(), 1u);
}

// One run of random steps; the naive side is a map from numbers of keys.
class RandomRun {
 public:
  RandomRun(uint64_t seed, const IndexLimits& limits, uint64_t keys)
      : rng_(seed), index_(limits, seed), keys_(keys) {}

  void Run(int steps, int check_every) {
    for (int step = 0; step < steps && !testing::Test::HasFailure(); ++step) {
      Step();
      if (step % check_every == 0) Check();
    }
    Check();
    EXPECT_EQ(index_.share->refusals(), 0u);
    if (reused_ == 0) ADD_FAILURE() << "no line was used again";
  }
  uint64_t buckets() const {
    return reinterpret_cast<const wire::IndexHeader*>(index_.memory.bytes().data())
        ->bucket_count.load();
  }

 private:
  struct Row {
    uint32_t line = kNoLine;
    uint64_t name = 0;
    uint16_t planes = 0;
    bool shown = false;
    std::map<uint32_t, uint64_t> words;
  };
  struct Section {
    uint64_t epoch;
    std::map<uint64_t, uint32_t> held;  // key's number → line
  };

  static uint16_t ModelOf(uint64_t number) { return static_cast<uint16_t>(number % 3); }

  void Step() {
    const uint64_t number = rng_.Below(keys_);
    const auto found = rows_.find(number);
    if (found == rows_.end()) {
      static constexpr uint16_t kPlanes[] = {1, 2, 5};
      Row row;
      row.planes = kPlanes[rng_.Below(3)];
      row.line = index_.Add(number, row.planes, ModelOf(number));
      ASSERT_NE(row.line, kNoLine);
      row.name = index_.share->NameOf(row.line);
      ASSERT_TRUE(names_.insert(row.name).second) << "a name was given twice";
      reused_ += !lines_.insert(row.line).second;
      for (const Section& section : sections_) {
        for (const auto& [key, line] : section.held)
          ASSERT_NE(line, row.line) << "lines were used again while a section holds them";
      }
      if (!rng_.OneIn(4)) row.shown = index_.share->Show(row.line);
      rows_.emplace(number, row);
      return;
    }
    Row& row = found->second;
    switch (rng_.Below(8)) {
      case 0:
        index_.share->Hide(row.line);
        row.shown = false;
        return;
      case 1:
        index_.share->Hide(row.line);
        for (const auto& [plane, word] : row.words)
          index_.share->SetBlock(row.line, plane, {}, true);
        index_.share->RemoveRow(row.line);
        rows_.erase(found);
        return;
      case 2:
        if (!row.shown) row.shown = index_.share->Show(row.line);
        return;
      case 3: {
        Section section{.epoch = index_.share->retire_epoch().load(), .held = {}};
        for (const auto& [key, other] : rows_) {
          if (other.shown && rng_.OneIn(4)) section.held[key] = other.line;
        }
        if (sections_.size() < 4) sections_.push_back(std::move(section));
        return;
      }
      case 4:
        if (!sections_.empty())
          sections_.erase(sections_.begin() + static_cast<int>(rng_.Below(sections_.size())));
        return;
      case 5: {
        uint64_t oldest = wire::kNoSection;
        for (const Section& section : sections_) oldest = std::min(oldest, section.epoch);
        index_.share->Reclaim(oldest);
        return;
      }
      default: {
        const auto plane = static_cast<uint32_t>(rng_.Below(row.planes));
        const ResidencyWord word(static_cast<uint32_t>(rng_.Next()), 1);
        index_.share->SetBlock(row.line, plane, {word, {}, word.bits()}, true);
        row.words[plane] = word.bits();
      }
    }
  }

  void Check() {
    uint64_t shown = 0;
    for (uint64_t number = 0; number < keys_; ++number) {
      const auto found = rows_.find(number);
      const IndexReader::Row row = index_.reader->Find(KeyOf(number), ModelOf(number));
      ASSERT_EQ(bool{row}, found != rows_.end() && found->second.shown) << "key " << number;
      if (found == rows_.end()) continue;
      shown += found->second.shown;
      const IndexReader::Row named = index_.reader->At(found->second.name);
      ASSERT_TRUE(named);
      ASSERT_EQ(named.line, found->second.line);
      ASSERT_EQ(index_.share->RowOf(found->second.name), number);
      for (uint32_t plane = 0; plane < found->second.planes; ++plane) {
        const auto word = found->second.words.find(plane);
        ASSERT_EQ(IndexReader::Resolve(named, plane).bits(),
                  word == found->second.words.end() ? 0 : word->second);
      }
    }
    ASSERT_EQ(index_.share->shown(), shown);
    ASSERT_EQ(index_.Audit(), shown);
  }

  Rng rng_;
  Index index_;
  uint64_t keys_;
  std::map<uint64_t, Row> rows_;
  std::vector<Section> sections_;
  std::set<uint64_t> names_;
  std::set<uint32_t> lines_;
  uint64_t reused_ = 0;
};

TEST(TenantShareTest, FindsWhatAMapHas) {
  const uint64_t seed = test_support::TestSeed(1);
  for (uint64_t run = 0; run < 20; ++run) {
    RandomRun small(seed + run, {.chunks_max = 400, .blocks_max = 4000}, 100);
    small.Run(4000, 100);
    if (testing::Test::HasFailure()) FAIL() << "KVTIER_TEST_SEED=" << seed + run;
  }
  RandomRun large(seed, {.chunks_max = 10'000, .blocks_max = 100'000}, 5000);
  large.Run(60'000, 6000);
  EXPECT_GT(large.buckets(), 500u) << "it did not grow";
}

}  // namespace
}  // namespace kvtier
