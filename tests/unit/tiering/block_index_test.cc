// BlockIndex finds every row that is in it and none that is not: random operations against
// std::unordered_map with good hashes and with bad ones (few tags, few buckets, all equal), while
// it grows bucket by bucket, and after rows left. Growth to a million rows keeps to the memory it
// promises.
#include "tiering/block/block_index.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier {
namespace {

uint64_t MixedHash(uint64_t key) { return Rng(key).Next(); }

// Rows with keys, as a block table has them.
class Table {
 public:
  explicit Table(std::function<uint64_t(uint64_t)> hash) : hash_(std::move(hash)) {}

  RowIndex Find(uint64_t key) const {
    return index_.Find(hash_(key), [&](RowIndex row) { return keys_.at(row) == key; });
  }
  void Insert(uint64_t key) {
    RowIndex row = static_cast<RowIndex>(keys_.size());
    if (unused_.empty()) {
      keys_.push_back(key);
    } else {
      row = unused_.back();
      unused_.pop_back();
      keys_[row] = key;
    }
    index_.Insert(hash_(key), row, [&](RowIndex other) {
      EXPECT_NE(other, row) << "asked for the hash of a row that is not in";
      return hash_(keys_.at(other));
    });
  }
  void Erase(uint64_t key, RowIndex row) {
    index_.Erase(hash_(key), row);
    unused_.push_back(row);
    keys_[row] = ~uint64_t{0};
  }
  const BlockIndex& index() const { return index_; }
  uint64_t key(RowIndex row) const { return keys_.at(row); }

 private:
  std::function<uint64_t(uint64_t)> hash_;
  BlockIndex index_;
  std::vector<uint64_t> keys_;
  std::vector<RowIndex> unused_;
};

struct HashCase {
  std::string name;
  std::function<uint64_t(uint64_t)> hash;
  uint64_t keys;  // drawn from that many
  int steps;
};

class BlockIndexHashTest : public testing::TestWithParam<HashCase> {};

TEST_P(BlockIndexHashTest, RandomOperationsAgreeWithAnUnorderedMap) {
  const HashCase& given = GetParam();
  Rng rng(test_support::TestSeed(99));
  Table table(given.hash);
  std::unordered_map<uint64_t, RowIndex> model;
  for (int step = 0; step < given.steps; ++step) {
    // Rows come for a while, then go for a while, so that chains and the list of unused buckets
    // grow and shrink.
    const bool growing = step / (given.steps / 8) % 2 == 0;
    const uint64_t key = rng.Below(given.keys);
    const auto found = model.find(key);
    const RowIndex row = table.Find(key);
    ASSERT_EQ(row, found == model.end() ? kNoRow : found->second)
        << "step " << step << " key " << key;
    if (found == model.end() && (growing || rng.OneIn(4))) {
      table.Insert(key);
      const RowIndex inserted = table.Find(key);
      ASSERT_NE(inserted, kNoRow) << "step " << step;
      model[key] = inserted;
    } else if (found != model.end() && (!growing || rng.OneIn(4))) {
      table.Erase(key, row);
      model.erase(found);
    }
    ASSERT_EQ(table.index().size(), model.size());
  }
  for (uint64_t key = 0; key < given.keys; ++key) {
    const auto found = model.find(key);
    ASSERT_EQ(table.Find(key), found == model.end() ? kNoRow : found->second) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Hashes, BlockIndexHashTest,
    testing::Values(
        HashCase{"Mixed", MixedHash, 40000, 400000},
        HashCase{"EqualTags", [](uint64_t key) { return MixedHash(key) >> 8; }, 20000, 100000},
        HashCase{"EqualBuckets", [](uint64_t key) { return MixedHash(key) & ~uint64_t{0xffffff}; },
                 2000, 20000},
        HashCase{"FewHashes", [](uint64_t key) { return MixedHash(key % 16); }, 2000, 20000},
        HashCase{"AllEqual", [](uint64_t) { return uint64_t{0x0123456789abcdef}; }, 1000, 10000},
        HashCase{"AllZero", [](uint64_t) { return uint64_t{0}; }, 1000, 10000},
        HashCase{"AllOnes", [](uint64_t) { return ~uint64_t{0}; }, 1000, 10000},
        HashCase{"TheKeyItself", [](uint64_t key) { return key; }, 20000, 100000}),
    [](const testing::TestParamInfo<HashCase>& given) { return given.param.name; });

TEST(BlockIndexTest, AnEmptyIndexFindsNothing) {
  const BlockIndex index;
  EXPECT_EQ(index.Find(7, [](RowIndex) { return true; }), kNoRow);
  index.Prefetch(7);
  EXPECT_EQ(index.size(), 0u);
}

TEST(BlockIndexTest, FindAsksOnlyAboutRowsWithTheTag) {
  BlockIndex index;
  for (RowIndex row = 0; row < 200; ++row)
    index.Insert(uint64_t{row} << 56 | 5, row,
                 [](RowIndex other) { return uint64_t{other} << 56 | 5; });
  int asked = 0;
  EXPECT_EQ(
      index.Find(uint64_t{77} << 56 | 5, [&](RowIndex row) { return ++asked > 0 && row == 77; }),
      77u);
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(index.Find(uint64_t{201} << 56 | 5, [&](RowIndex) { return true; }), kNoRow);
}

TEST(BlockIndexTest, NoRowIsLostWhileBucketsSplit) {
  Table table(MixedHash);
  for (uint64_t count = 1; count <= 3000; ++count) {
    table.Insert(count - 1);
    for (uint64_t key = 0; key < count; key += 1 + count / 64)
      ASSERT_EQ(table.Find(key), key) << "of " << count;
  }
  for (uint64_t key = 0; key < 3000; ++key) ASSERT_EQ(table.Find(key), key);
}

TEST(BlockIndexTest, AMillionRowsKeepToTheMemoryPromised) {
  BlockIndex index;
  const auto hash_of = [](RowIndex row) { return MixedHash(row); };
  const uint64_t rows = 1000000;
  uint64_t next_check = 100000;
  for (RowIndex row = 0; row < rows; ++row) {
    index.Insert(MixedHash(row), row, hash_of);
    if (index.size() < next_check) continue;
    next_check += 50000;
    // Below a million rows the last page of each kind counts.
    const double slack_bytes = 2 * 65536;
    EXPECT_LE(static_cast<double>(index.metadata_bytes().count()) - slack_bytes,
              9.0 * static_cast<double>(index.size()))
        << index.size() << " rows";
  }
  EXPECT_EQ(index.size(), rows);
  EXPECT_LE(static_cast<double>(index.metadata_bytes().count()) / rows, 9.0);
  uint64_t asked = 0;
  for (RowIndex row = 0; row < rows; ++row) {
    ASSERT_EQ(
        index.Find(MixedHash(row), [&](RowIndex other) { return ++asked > 0 && other == row; }),
        row);
  }
  EXPECT_LT(static_cast<double>(asked) / rows, 1.05);  // tags tell nearly all others apart
  // Full again after it was empty: from the same memory.
  const Bytes before = index.metadata_bytes();
  for (RowIndex row = 0; row < rows; ++row) index.Erase(MixedHash(row), row);
  EXPECT_EQ(index.size(), 0u);
  for (RowIndex row = 0; row < rows; ++row) index.Insert(MixedHash(row), row, hash_of);
  EXPECT_LE(static_cast<double>(index.metadata_bytes().count()),
            1.02 * static_cast<double>(before.count()));
}

TEST(BlockIndexDeathTest, ErasingARowThatIsNotThereAborts) {
  BlockIndex index;
  index.Insert(7, 1, [](RowIndex) { return uint64_t{7}; });
  EXPECT_DEATH(index.Erase(7, 2), "not in the index");
  EXPECT_DEATH(index.Erase(uint64_t{8} << 56 | 7, 1), "not in the index");
}

}  // namespace
}  // namespace kvtier
