// What each placement policy says of itself: in which order chunks go, and what moves where.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "tests/support/policy_table.h"
#include "tests/support/test_seed.h"
#include "tiering/base/check.h"
#include "tiering/base/rng.h"
#include "tiering/block/block_catalog.h"
#include "tiering/plan/chunk_lru.h"
#include "tiering/plan/lfu_policy.h"
#include "tiering/plan/lru_policy.h"
#include "tiering/plan/s3fifo_policy.h"
#include "tiering/plan/static_split_policy.h"

namespace kvtier::test_support {
namespace {

std::unique_ptr<PlacementPolicy> StaticSplit(std::vector<double> shares) {
  auto policy = StaticSplitPolicy::Create(std::move(shares));
  KVTIER_CHECK(policy.ok());
  return *std::move(policy);
}

// A tree of chunks, all of them in recency lists.
struct ListedTree {
  explicit ListedTree(const std::vector<RowIndex>& parents)
      : table(parents.size()), lru(&table, 2) {
    table.AddModel({.tenant = TenantId(0),
                    .chunk_tokens = 16,
                    .plane_bytes = {KiB(4)},
                    .required = {true},
                    .required_count = 1,
                    .resume_planes = {}});
    for (size_t i = 0; i < parents.size(); ++i) {
      wire::ChunkKey key;
      key.bytes[0] = static_cast<uint8_t>(i);
      key.bytes[1] = static_cast<uint8_t>(i >> 8);
      key.bytes[2] = 1;
      const RowIndex row = table.Create(ModelId(0), key, parents[i], 16);
      KVTIER_CHECK(row == i);
      lru.PushFront(row, i % 17 == 0 ? 1 : 0);
    }
  }
  std::vector<RowIndex> Order(size_t list) const {
    std::vector<RowIndex> order;
    for (RowIndex row = lru.Back(list); row != kNoRow; row = lru.TowardsFront(row))
      order.push_back(row);
    return order;
  }

  BlockCatalog table;
  ChunkLru lru;
};

// A search that remembers its last way down moves rows to where one that walks each way anew does,
// in trees of chains longer than a walk goes.
TEST(ChunkLruTest, TheLeafFollowsFromTheWayDownBefore) {
  Rng rng(TestSeed(9));
  for (int tree = 0; tree < 20; ++tree) {
    std::vector<RowIndex> parents;
    for (int chain = 0; chain < 5; ++chain) {
      RowIndex parent = parents.empty() || rng.OneIn(3)
                            ? kNoRow
                            : static_cast<RowIndex>(rng.Below(parents.size()));
      for (uint64_t left = 1 + rng.Below(200); left > 0; --left) {
        parents.push_back(parent);
        parent = static_cast<RowIndex>(parents.size() - 1);
      }
    }
    ListedTree remembers(parents), walks(parents);
    for (int search = 0; search < 40; ++search) {
      for (uint64_t left = rng.Below(3); left > 0; --left) {
        const auto touched = static_cast<RowIndex>(rng.Below(parents.size()));
        remembers.lru.MoveToFront(touched);
        walks.lru.MoveToFront(touched);
      }
      const size_t list = rng.OneIn(4) ? 1 : 0;
      ChunkLru::Descent descent;
      RowIndex row = remembers.lru.Back(list);
      for (int moved = 0; row != kNoRow && moved < 64; ++moved) {
        const RowIndex next = remembers.lru.TowardsFront(row);
        ChunkLru::Descent none;
        remembers.lru.MoveNextToLeaf(row, descent);
        walks.lru.MoveNextToLeaf(row, none);
        row = next;
      }
      for (const size_t each : {0, 1}) ASSERT_EQ(remembers.Order(each), walks.Order(each));
    }
  }
}

TEST(StaticSplitPolicyTest, SharesMustBeAWhole) {
  for (const std::vector<double>& shares :
       {std::vector<double>{0.5, 0.6}, std::vector<double>{}, std::vector<double>{1.5, -0.5}}) {
    const auto policy = StaticSplitPolicy::Create(shares);
    ASSERT_FALSE(policy.ok());
    EXPECT_EQ(policy.status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(StaticSplitPolicyTest, PlanesFillPoolsInOrderAndNothingMoves) {
  PolicyTable view(2, StaticSplit({0.34, 0.66}));
  EXPECT_THAT(view.Place(TenantId(0), PlaneIndex(0)), ::testing::ElementsAre(PoolId(0)));
  EXPECT_THAT(view.Place(TenantId(0), PlaneIndex(1)), ::testing::ElementsAre(PoolId(1)));
  EXPECT_THAT(view.Place(TenantId(0), PlaneIndex(2)), ::testing::ElementsAre(PoolId(1)));
  const RowIndex row = view.Commit(TenantId(0), kNoRow);
  view.policy().OnPrefetch(row);
  EXPECT_THAT(view.Plan(100), ::testing::IsEmpty());
}

TEST(LruPolicyTest, TheOldestTailGoesFirst) {
  PolicyTable view(1, LruPolicy::Create());
  const RowIndex first = view.Commit(TenantId(0), kNoRow);
  const RowIndex first_tail = view.Commit(TenantId(0), first);
  const RowIndex second = view.Commit(TenantId(0), kNoRow);
  EXPECT_EQ(view.Victim(TenantId(0), PoolId(0)), first_tail);
  const RowIndex prefix[] = {first, first_tail};
  view.policy().OnTouch(prefix);
  EXPECT_EQ(view.Victim(TenantId(0), PoolId(0)), second);
  view.Drop(second);
  EXPECT_EQ(view.Victim(TenantId(0), PoolId(0)), first_tail)
      << "a tail is older than what it hangs on";
  view.Drop(first_tail);
  EXPECT_EQ(view.Victim(TenantId(0), PoolId(0)), first);
}

// Chains go whole, tail to head, the one that was used longest ago first: whether they were
// committed one after the other or at the same time.
TEST(LruPolicyTest, OldChainsGoBeforeTheTailsOfNewOnes) {
  constexpr int kLinks = 5;
  for (const bool interleaved : {false, true}) {
    PolicyTable view(1, LruPolicy::Create());
    std::vector<RowIndex> chains[2];
    for (int i = 0; i < 2 * kLinks; ++i) {
      std::vector<RowIndex>& chain = chains[interleaved ? i % 2 : i / kLinks];
      chain.push_back(view.Commit(TenantId(0), chain.empty() ? kNoRow : chain.back()));
    }
    for (const std::vector<RowIndex>& chain : chains) {
      for (size_t i = chain.size(); i-- > 0;) {
        EXPECT_EQ(view.Victim(TenantId(0), PoolId(0)), chain[i])
            << (interleaved ? "interleaved" : "in turn") << ", link " << i;
        view.Drop(chain[i]);
      }
    }
  }
}

TEST(LfuPolicyTest, WhatWasReadLeastGoesFirst) {
  PolicyTable view(1, LfuPolicy::Create());
  std::vector<RowIndex> rows;
  for (int i = 0; i < 4; ++i) rows.push_back(view.Commit(TenantId(0), kNoRow));
  const auto touch = [&](int i) {
    view.policy().OnTouch(absl::MakeConstSpan(&rows[static_cast<size_t>(i)], 1));
  };
  for (const int i : {0, 0, 0, 1, 2, 2, 1, 3}) touch(i);
  // Twice: 1 was read after 2.
  for (const int i : {3, 2, 1, 0}) {
    EXPECT_EQ(view.Victim(TenantId(0), PoolId(0)), rows[static_cast<size_t>(i)]);
    view.Drop(rows[static_cast<size_t>(i)]);
  }
}

// Room for twelve chunks, so one in the small queue. What was read twice there stays, what was
// dropped and comes again stays at once, and what is in the main queue has three lives.
TEST(S3FifoPolicyTest, SmallQueueMainQueueAndWhatIsRemembered) {
  PolicyTable view(1, S3FifoPolicy::Create());
  const auto victim = [&] { return view.Victim(TenantId(0), PoolId(0)); };
  const auto touch = [&](RowIndex row, int times) {
    for (int i = 0; i < times; ++i) view.policy().OnTouch(absl::MakeConstSpan(&row, 1));
  };
  const RowIndex kept = view.Commit(TenantId(0), kNoRow);
  const RowIndex once = view.Commit(TenantId(0), kNoRow);
  touch(kept, 2);
  touch(once, 1);
  EXPECT_EQ(victim(), once) << "read once is not enough";
  const wire::ChunkKey key = view.table().key(once);
  view.Drop(once);
  // Only `kept` is left, in the main queue.
  const RowIndex again = view.Commit(TenantId(0), kNoRow, key);
  EXPECT_EQ(victim(), kept) << "the small queue is empty, and nothing was read in the main one";
  touch(kept, 1);
  EXPECT_EQ(victim(), again) << "it came into the main queue, behind what has been read since";
  touch(again, 1);
  EXPECT_EQ(victim(), kept) << "read once, spared once";
}

// As much is remembered as the main queue may hold: nine tenths of twelve chunks.
TEST(S3FifoPolicyTest, RemembersAsManyBytesAsTheMainQueueHasRoomFor) {
  for (const int others : {9, 11}) {
    PolicyTable view(1, S3FifoPolicy::Create());
    const RowIndex first = view.Commit(TenantId(0), kNoRow);
    const wire::ChunkKey key = view.table().key(first);
    view.Drop(first);
    for (int i = 0; i < others; ++i) view.Drop(view.Commit(TenantId(0), kNoRow));
    const RowIndex again = view.Commit(TenantId(0), kNoRow, key);
    // Two in the small queue: one more than it should have.
    const RowIndex small = view.Commit(TenantId(0), kNoRow);
    const RowIndex smaller = view.Commit(TenantId(0), kNoRow);
    EXPECT_EQ(view.Victim(TenantId(0), PoolId(0)), others == 9 ? small : again) << others;
    EXPECT_NE(again, smaller);
  }
}

TEST(LruPolicyTest, WhatIsOldSinksAndWhatIsTouchedRises) {
  PolicyTable view(2, LruPolicy::Create());
  std::vector<RowIndex> rows;
  for (int i = 0; i < 12; ++i) rows.push_back(view.Commit(TenantId(0), kNoRow));
  // The fast pool is full: the oldest chunk is to go down, plane by plane.
  std::vector<MoveIdea> ideas = view.Plan(3);
  ASSERT_EQ(ideas.size(), 3u);
  for (uint16_t i = 0; i < 3; ++i) {
    EXPECT_EQ(ideas[i].row, rows[0]);
    EXPECT_EQ(ideas[i].plane, PlaneIndex(i));
    EXPECT_EQ(ideas[i].to, PoolId(1));
    EXPECT_FALSE(ideas[i].keep_source);
    EXPECT_TRUE(view.Apply(ideas[i]));
  }
  EXPECT_FALSE(view.InPool(rows[0], PoolId(0)));
  view.policy().OnTouch(absl::MakeConstSpan(&rows[0], 1));
  ideas = view.Plan(6);
  ASSERT_FALSE(ideas.empty());
  EXPECT_EQ(ideas[0].row, rows[0]);
  EXPECT_EQ(ideas[0].to, PoolId(0));
}

TEST(LruPolicyTest, APrefetchIsAskedForUntilItIsThereOrTooLate) {
  PolicyTable view(2, LruPolicy::Create());
  std::vector<RowIndex> rows;
  for (int i = 0; i < 12; ++i) rows.push_back(view.Commit(TenantId(0), kNoRow));
  for (int chunk = 0; chunk < 2; ++chunk) {
    for (const MoveIdea& idea : view.Plan(3)) ASSERT_TRUE(view.Apply(idea));
  }
  const auto wanted = [&](double second) {
    std::set<RowIndex> up;
    for (const MoveIdea& idea : view.Plan(20, absl::FromUnixSeconds(1) + absl::Seconds(second))) {
      if (idea.to == PoolId(0)) up.insert(idea.row);
    }
    return up;
  };
  using Rows = std::set<RowIndex>;
  view.policy().OnTouch(absl::MakeConstSpan(&rows[0], 1));
  view.policy().OnPrefetch(rows[1]);
  EXPECT_EQ(wanted(0), (Rows{rows[0], rows[1]}));
  // The engine refused both. Whoever needs the one that was read touches it again.
  EXPECT_EQ(wanted(1), Rows{rows[1]});
  EXPECT_EQ(wanted(4.9), Rows{rows[1]});
  EXPECT_EQ(wanted(5), Rows{rows[1]}) << "the last try";
  EXPECT_EQ(wanted(5.1), Rows{});
  view.policy().OnPrefetch(rows[1]);
  for (const MoveIdea& idea : view.Plan(6)) ASSERT_TRUE(view.Apply(idea));
  EXPECT_TRUE(view.InPool(rows[1], PoolId(0)));
  EXPECT_EQ(wanted(0), Rows{}) << "it is there";
}

}  // namespace
}  // namespace kvtier::test_support
