// What keeps the block table small and quick whatever clients do: keys that they choose spread over
// the index, and memory for blocks is bounded, comes back when rows go, and is never mixed up.
#include "tiering/block/block_catalog.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier {
namespace {

wire::ChunkKey KeyOf(uint64_t low, uint64_t high) {
  wire::ChunkKey key;
  std::memcpy(key.bytes.data(), &low, sizeof(low));
  std::memcpy(key.bytes.data() + sizeof(low), &high, sizeof(high));
  return key;
}

ModelLayout LayoutOf(size_t planes) {
  ModelLayout layout;
  layout.chunk_tokens = 4;
  layout.plane_bytes.assign(planes, Bytes(64));
  layout.required.assign(planes, false);
  return layout;
}

// --- hashing

// The most of 4096 keys that share a place in 1024 buckets or a tag; 16 would be even.
template <typename MakeKey>
size_t MostTogether(const ChunkHash& hash, MakeKey make_key) {
  std::map<uint64_t, size_t> buckets, tags;
  for (uint64_t i = 0; i < 4096; ++i) {
    const uint64_t value = hash(make_key(i), 0);
    ++buckets[value % 1024];
    ++tags[value >> 56];
  }
  size_t most = 0;
  for (const auto* counts : {&buckets, &tags}) {
    for (const auto& [place, count] : *counts) most = std::max(most, count);
  }
  return most;
}

TEST(ChunkHash, KeysThatShareAWordOrCountUpwardsAreSpread) {
  const ChunkHash hash(test_support::TestSeed(20261121));
  // Chance makes about 40 in the fullest tag of 256.
  EXPECT_LT(MostTogether(hash, [](uint64_t i) { return KeyOf(7, i); }), 80u);
  EXPECT_LT(MostTogether(hash, [](uint64_t i) { return KeyOf(i, 7); }), 80u);
  EXPECT_LT(MostTogether(hash, [](uint64_t i) { return KeyOf(i << 32, 0); }), 80u);
  EXPECT_LT(MostTogether(hash, [](uint64_t i) { return KeyOf(0, i << 52); }), 80u);
}

TEST(ChunkHash, KeysThatCollideUnderOneSeedDoNotUnderAnother) {
  const ChunkHash known(1);
  const ChunkHash secret(2);
  Rng rng(test_support::TestSeed(20261122));
  std::set<uint64_t> places;
  size_t colliding = 0;
  while (colliding < 64) {
    const wire::ChunkKey key = KeyOf(rng.Next(), rng.Next());
    if (known(key, 0) % 1024 != 0) continue;
    ++colliding;
    places.insert(secret(key, 0) % 1024);
  }
  EXPECT_GT(places.size(), 48u);
}

TEST(ChunkHash, ModelsShareNoPlaces) {
  const ChunkHash hash(3);
  EXPECT_NE(hash(KeyOf(1, 2), 0), hash(KeyOf(1, 2), 1));
}

// --- memory for blocks

TEST(BlockCatalog, RefusesRowsBeyondTheBlocksItMayHave) {
  constexpr uint64_t kBlocks = 8192;
  BlockCatalog table(1'000'000, kBlocks);
  table.AddModel(LayoutOf(1024));
  table.AddModel(LayoutOf(4));
  std::vector<RowIndex> rows;
  for (uint64_t i = 1;; ++i) {
    const RowIndex row = table.Create(ModelId(0), KeyOf(i, 0), kNoRow, 4);
    if (row == kNoRow) break;
    rows.push_back(row);
    ASSERT_LE(rows.size(), kBlocks / 1024);
  }
  EXPECT_EQ(rows.size(), kBlocks / 1024);
  EXPECT_EQ(table.Create(ModelId(1), KeyOf(1, 1), kNoRow, 4), kNoRow);
  table.CheckInvariants();
  // Rows that go make room for the same model at once, and for others once a page is empty.
  table.Remove(rows[0]);
  rows[0] = table.Create(ModelId(0), KeyOf(100, 0), kNoRow, 4);
  EXPECT_NE(rows[0], kNoRow);
  for (const RowIndex row : rows) table.Remove(row);
  for (uint64_t i = 0; i < kBlocks / 4; ++i) {
    ASSERT_NE(table.Create(ModelId(1), KeyOf(i, 1), kNoRow, 4), kNoRow) << i;
  }
  EXPECT_EQ(table.Create(ModelId(1), KeyOf(5000, 1), kNoRow, 4), kNoRow);
  table.CheckInvariants();
}

TEST(BlockCatalog, GivesTheMemoryOfBlocksBack) {
  BlockCatalog table(1'000'000);
  table.AddModel(LayoutOf(64));
  std::vector<RowIndex> rows;
  const auto fill = [&] {
    rows.clear();
    for (uint64_t i = 0; i < 6400; ++i)
      rows.push_back(table.Create(ModelId(0), KeyOf(i, 0), kNoRow, 4));
  };
  fill();
  const Bytes full = table.metadata_bytes();
  for (const RowIndex row : rows) table.Remove(row);
  EXPECT_LE(table.metadata_bytes(), full - Bytes(6300 * 64 * 16));
  fill();
  EXPECT_EQ(table.metadata_bytes(), full);
}

// Random groups against their own contents: no two share a block, new ones are empty, and what is
// allocated follows what is there.
TEST(BlockStore, GroupsAreApartAndNewOnesAreEmpty) {
  Rng rng(test_support::TestSeed(20261123));
  for (const uint32_t planes : {1u, 3u, 80u, 5000u}) {
    BlockRoom room{.blocks_max = 200'000};
    BlockStore store(planes, &room);
    std::vector<std::pair<uint32_t, uint64_t>> groups;  // and the mark in each of its blocks
    uint64_t refused = 0;
    for (uint64_t step = 1; step <= 6000; ++step) {
      const bool fill = step / 1000 % 2 == 0;
      if (groups.empty() || rng.Below(4) < (fill ? 3 : 1)) {
        const uint32_t group = store.Add();
        if (group == BlockStore::kNone) {
          ++refused;
          continue;
        }
        for (uint32_t i = 0; i < planes; ++i) {
          ASSERT_EQ(store.At(group)[i].checksum, 0u);
          store.At(group)[i].checksum = step;
        }
        groups.emplace_back(group, step);
      } else {
        std::swap(groups[rng.Below(groups.size())], groups.back());
        const auto [group, mark] = groups.back();
        groups.pop_back();
        for (uint32_t i = 0; i < planes; ++i) ASSERT_EQ(store.At(group)[i].checksum, mark);
        store.Remove(group);
      }
      ASSERT_EQ(room.blocks_allocated, store.allocated_blocks());
      ASSERT_LE(room.blocks_allocated, room.blocks_max);
    }
    EXPECT_EQ(refused > 0, planes == 5000);
    for (const auto& [group, mark] : groups) store.Remove(group);
    store.ReleaseSpare();
    EXPECT_EQ(store.allocated_blocks(), 0u);
  }
}

}  // namespace
}  // namespace kvtier
