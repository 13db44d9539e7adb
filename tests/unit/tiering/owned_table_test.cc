// Handles of OwnedTable are never zero and never given twice, however often an index is used: with
// few generations, against the set of all handles given before.
#include "tiering/engine/owned_table.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <vector>

namespace kvtier {
namespace {

constexpr uint32_t kEntries = 3;
constexpr uint32_t kGenerations = 4;

TEST(OwnedTable, HandlesAreNeverZeroNorGivenTwice) {
  OwnedTable<int> table(kEntries, kGenerations);
  OwnedList owner;
  std::set<uint64_t> given;
  std::vector<uint64_t> live;
  for (int round = 0; round < 100; ++round) {
    const uint64_t handle = table.Add(owner, round);
    EXPECT_NE(handle, 0u);
    EXPECT_TRUE(given.insert(handle).second) << handle << " was given before";
    live.push_back(handle);
    if (!table.full()) continue;
    // Ends the oldest, so that indices are used by turns.
    table.Remove(owner, live.front());
    live.erase(live.begin());
    for (const uint64_t old : given) {
      const bool lives = old == live[0] || old == live[1];
      EXPECT_EQ(table.Find(old) != nullptr, lives) << old;
    }
  }
  EXPECT_EQ(table.size(), kEntries - 1);
}

TEST(OwnedTable, ARetiredIndexIsReplacedAndSweptOver) {
  OwnedTable<int> table(1, kGenerations);
  OwnedList owner;
  for (uint32_t use = 0; use < kGenerations; ++use) table.Remove(owner, table.Add(owner, 0));
  EXPECT_EQ(table.slot_count(), 1u);
  const uint64_t next = table.Add(owner, 7);
  EXPECT_EQ(table.slot_count(), 2u);
  EXPECT_EQ(table.HandleAt(0), 0u);
  EXPECT_EQ(table.HandleAt(1), next);
  EXPECT_EQ(table.FirstOf(owner), next);
  EXPECT_TRUE(table.full()) << "a retired index counts for nothing";
}

}  // namespace
}  // namespace kvtier
