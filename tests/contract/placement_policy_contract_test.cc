// Every placement policy against a block table that changes as an engine's does: it names only what
// may be dropped and what is there, keeps to its bounds, and gives the same answers to the same
// calls.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/block_content.h"
#include "tests/support/test_seed.h"
#include "tiering/base/check.h"
#include "tiering/base/rng.h"
#include "tiering/plan/lfu_policy.h"
#include "tiering/plan/lru_policy.h"
#include "tiering/plan/placement_policy.h"
#include "tiering/plan/s3fifo_policy.h"
#include "tiering/plan/static_split_policy.h"

namespace kvtier::test_support {
namespace {

constexpr int64_t kPlaneBytes[] = {512, 512, 256};
constexpr int64_t kRoomBytes = 12 * (512 + 512 + 256);

struct PolicyCase {
  std::string name;
  size_t pool_count = 2;
  std::function<std::unique_ptr<PlacementPolicy>()> create;
};

// A block table whose copies are numbers only, filled and moved as an engine would. Not
// thread-safe.
class PolicyTable : public PlacementView {
 public:
  static constexpr uint16_t kTenants = 2;

  PolicyTable(size_t pool_count, std::unique_ptr<PlacementPolicy> policy);

  const BlockTable& table() const override { return table_; }
  size_t pool_count() const override { return pool_count_; }
  size_t tenant_count() const override { return kTenants; }
  PoolRoom Room(TenantId tenant, PoolId pool) const override;
  bool MovesStopped(TenantId, PoolId) const override { return false; }
  Bytes SlotBytes(ModelId model, PlaneIndex plane) const override;
  absl::Time AccessTime(TenantId) const override { return absl::UnixEpoch(); }

  BlockTable& mutable_table() { return table_; }
  PlacementPolicy& policy() { return *policy_; }
  // One model a tenant, of the same number.
  static ModelId ModelOf(TenantId tenant) { return ModelId(tenant.value()); }

  // A visible chunk placed where the policy says; kNoRow when it names no pool.
  RowIndex Commit(TenantId tenant, RowIndex parent) {
    return Commit(tenant, parent, NumberedKey(next_key_++));
  }
  RowIndex Commit(TenantId tenant, RowIndex parent, const wire::ChunkKey& key);
  // Takes a droppable chunk out.
  void Drop(RowIndex row);
  // Performs an idea that names a copy that is there. The engine may refuse any: false for the
  // others.
  bool Apply(const MoveIdea& idea);
  bool InPool(RowIndex row, PoolId pool) const;
  std::vector<RowIndex> Rows(TenantId tenant) const;
  // The answers of PlaceNew, checked.
  std::vector<PoolId> Place(TenantId tenant, PlaneIndex plane);
  // Victim, checked.
  RowIndex Victim(TenantId tenant, PoolId pool);
  // Plan, checked; ideas are appended to what was there before.
  std::vector<MoveIdea> Plan(size_t ideas_max, absl::Time now = absl::FromUnixSeconds(1));

 private:
  CopyRef NewCopy(PoolId pool);

  const size_t pool_count_;
  BlockTable table_{1000};
  std::unique_ptr<PlacementPolicy> policy_;
  std::map<std::pair<TenantId, PoolId>, int64_t> used_;
  uint32_t next_copy_ = 0;
  uint64_t next_key_ = 1;
};

class PlacementPolicyContract : public ::testing::TestWithParam<PolicyCase> {};

PolicyTable::PolicyTable(size_t pool_count, std::unique_ptr<PlacementPolicy> policy)
    : pool_count_(pool_count), policy_(std::move(policy)) {
  for (uint16_t tenant = 0; tenant < kTenants; ++tenant) {
    ModelLayout layout;
    layout.tenant = TenantId(tenant);
    layout.chunk_tokens = 16;
    for (const int64_t bytes : kPlaneBytes) {
      layout.plane_bytes.push_back(Bytes(bytes));
      layout.required.push_back(true);
    }
    layout.required_count = 3;
    table_.AddModel(std::move(layout));
  }
  policy_->Bind(this, &table_);
}

PoolRoom PolicyTable::Room(TenantId tenant, PoolId pool) const {
  const auto used = used_.find({tenant, pool});
  return {Bytes(used == used_.end() ? 0 : used->second), Bytes(kRoomBytes)};
}

Bytes PolicyTable::SlotBytes(ModelId, PlaneIndex plane) const {
  return Bytes(kPlaneBytes[plane.value()]);
}

CopyRef PolicyTable::NewCopy(PoolId pool) {
  const uint32_t number = next_copy_++;
  return CopyRef(pool, SegmentIndex(number / 16'384), number % 16'384);
}

std::vector<PoolId> PolicyTable::Place(TenantId tenant, PlaneIndex plane) {
  std::vector<PoolId> pools;
  policy_->PlaceNew(tenant, ModelOf(tenant), plane, pools);
  EXPECT_FALSE(pools.empty()) << "a new block has to go somewhere";
  std::set<PoolId> distinct;
  for (const PoolId pool : pools) {
    EXPECT_LT(pool.value(), pool_count_);
    EXPECT_TRUE(distinct.insert(pool).second) << "pool " << int{pool.value()} << " is named twice";
  }
  return pools;
}

RowIndex PolicyTable::Commit(TenantId tenant, RowIndex parent, const wire::ChunkKey& key) {
  const RowIndex row = table_.Create(ModelOf(tenant), key, parent, 16);
  KVTIER_CHECK(row != kNoRow);
  for (uint16_t i = 0; i < 3; ++i) {
    const std::vector<PoolId> pools = Place(tenant, PlaneIndex(i));
    if (pools.empty()) return kNoRow;
    PoolId pool = pools.back();
    for (const PoolId candidate : pools) {
      if (Room(tenant, candidate).used.count() + kPlaneBytes[i] > kRoomBytes) continue;
      pool = candidate;
      break;
    }
    table_.SetFirst(row, PlaneIndex(i), NewCopy(pool), 1);
    used_[{tenant, pool}] += kPlaneBytes[i];
  }
  table_.MarkVisible(row);
  policy_->OnCommit(row);
  return row;
}

void PolicyTable::Drop(RowIndex row) {
  policy_->OnRemove(row);
  for (uint16_t i = 0; i < 3; ++i) {
    while (table_.block(row, PlaneIndex(i)).best.valid()) {
      const CopyRef copy = table_.block(row, PlaneIndex(i)).best;
      used_[{table_.tenant(row), copy.pool()}] -= kPlaneBytes[i];
      table_.RemoveCopy(row, PlaneIndex(i), copy);
    }
  }
  table_.Remove(row);
}

bool PolicyTable::Apply(const MoveIdea& idea) {
  const Block& block = table_.block(idea.row, idea.plane);
  if (!block.best.valid() || block.best.pool() != idea.from || block.second.valid()) return false;
  const TenantId tenant = table_.tenant(idea.row);
  const int64_t bytes = kPlaneBytes[idea.plane.value()];
  const CopyRef source = block.best;
  table_.AddCopy(idea.row, idea.plane, NewCopy(idea.to));
  used_[{tenant, idea.to}] += bytes;
  if (!idea.keep_source) {
    table_.RemoveCopy(idea.row, idea.plane, source);
    used_[{tenant, idea.from}] -= bytes;
  }
  policy_->OnResidency(idea.row);
  return true;
}

bool PolicyTable::InPool(RowIndex row, PoolId pool) const {
  for (uint16_t i = 0; i < 3; ++i) {
    const Block& block = table_.block(row, PlaneIndex(i));
    if (block.best.valid() && block.best.pool() == pool) return true;
    if (block.second.valid() && block.second.pool() == pool) return true;
  }
  return false;
}

std::vector<RowIndex> PolicyTable::Rows(TenantId tenant) const {
  std::vector<RowIndex> rows;
  for (RowIndex row = 0; row < table_.row_end(); ++row) {
    if (table_.live(row) && !table_.hidden(row) && table_.tenant(row) == tenant)
      rows.push_back(row);
  }
  return rows;
}

RowIndex PolicyTable::Victim(TenantId tenant, PoolId pool) {
  const RowIndex victim = policy_->Victim(tenant, pool);
  if (victim == kNoRow) return kNoRow;
  EXPECT_TRUE(table_.live(victim));
  EXPECT_FALSE(table_.hidden(victim)) << "what was forgotten is no longer the policy's";
  EXPECT_EQ(table_.tenant(victim), tenant) << "another tenant's chunk";
  EXPECT_TRUE(table_.Droppable(victim));
  bool helps = InPool(victim, pool);
  for (RowIndex above = table_.parent(victim); above != kNoRow; above = table_.parent(above))
    helps |= InPool(above, pool);
  EXPECT_TRUE(helps) << "dropping it brings no room nearer";
  return victim;
}

std::vector<MoveIdea> PolicyTable::Plan(size_t ideas_max, absl::Time now) {
  std::vector<MoveIdea> ideas(1);
  policy_->Plan(now, ideas_max, ideas);
  EXPECT_GE(ideas.size(), 1u) << "ideas are appended";
  EXPECT_EQ(ideas[0].row, kNoRow) << "ideas are appended";
  EXPECT_LE(ideas.size() - 1, ideas_max);
  ideas.erase(ideas.begin());
  for (const MoveIdea& idea : ideas) {
    EXPECT_TRUE(table_.live(idea.row) && !table_.hidden(idea.row));
    EXPECT_LT(idea.plane.value(), 3);
    EXPECT_LT(idea.from.value(), pool_count_);
    EXPECT_LT(idea.to.value(), pool_count_);
    EXPECT_NE(idea.from, idea.to);
    EXPECT_TRUE(InPool(idea.row, idea.from)) << "there is no copy to move";
  }
  return ideas;
}

// A few hundred steps in the life of a table; the trace of every answer.
std::vector<uint64_t> Live(const PolicyCase& policy_case, uint64_t seed, int steps) {
  PolicyTable view(policy_case.pool_count, policy_case.create());
  BlockTable& table = view.mutable_table();
  Rng rng(seed);
  std::vector<uint64_t> trace;
  std::vector<RowIndex> pinned;
  for (int step = 0; step < steps && !::testing::Test::HasFailure(); ++step) {
    const TenantId tenant(static_cast<uint16_t>(rng.Below(PolicyTable::kTenants)));
    const PoolId pool(static_cast<uint8_t>(rng.Below(policy_case.pool_count)));
    const std::vector<RowIndex> rows = view.Rows(tenant);
    const RowIndex any = rows.empty() ? kNoRow : rows[rng.Below(rows.size())];
    switch (rng.Below(9)) {
      case 0:
      case 1:
        if (rows.size() < 40) trace.push_back(view.Commit(tenant, rng.OneIn(3) ? kNoRow : any));
        break;
      case 2:
        if (any != kNoRow) {
          std::vector<RowIndex> prefix;
          for (RowIndex row = any; row != kNoRow; row = table.parent(row)) prefix.push_back(row);
          std::reverse(prefix.begin(), prefix.end());
          view.policy().OnTouch(prefix);
        }
        break;
      case 3:
        if (any != kNoRow) {
          view.policy().OnRead(any, PlaneIndex(static_cast<uint16_t>(rng.Below(3))), 1, rng.Unit());
          view.policy().OnPrefetch(any);
        }
        break;
      case 4: {
        if (any != kNoRow && rng.OneIn(2)) {
          table.Pin(any);
          pinned.push_back(any);
        } else if (!pinned.empty()) {
          table.Unpin(pinned.back());
          pinned.pop_back();
        }
        break;
      }
      case 5:
      case 6: {
        const RowIndex victim = view.Victim(tenant, pool);
        trace.push_back(victim);
        if (victim != kNoRow && !::testing::Test::HasFailure()) view.Drop(victim);
        break;
      }
      case 7:
        for (const MoveIdea& idea : view.Plan(rng.Below(6))) {
          if (::testing::Test::HasFailure()) break;
          trace.push_back(uint64_t{idea.row} << 16 | uint64_t{idea.plane.value()} << 8 |
                          idea.to.value());
          if (rng.OneIn(4)) continue;  // the engine may refuse any of them
          view.Apply(idea);
        }
        break;
      default:
        // Forgotten: the policy hears of it once, and the row lives on until nobody holds it.
        if (any != kNoRow && table.first_child(any) == kNoRow) {
          view.policy().OnRemove(any);
          table.Unlink(any);
        }
        break;
    }
  }
  table.CheckInvariants();
  return trace;
}

TEST_P(PlacementPolicyContract, NamesOnlyWhatItMay) {
  const uint64_t seed = TestSeed(1);
  for (uint64_t run = 0; run < 200; ++run) {
    SCOPED_TRACE(seed + run);
    Live(GetParam(), seed + run, 300);
    if (HasFailure()) return;
  }
}

TEST_P(PlacementPolicyContract, TheSameCallsGetTheSameAnswers) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    const std::vector<uint64_t> first = Live(GetParam(), seed, 300);
    EXPECT_EQ(first, Live(GetParam(), seed, 300));
    EXPECT_GT(first.size(), 30u);
  }
}

// Asked often enough, it finds whatever may go: else a full pool would refuse for ever.
TEST_P(PlacementPolicyContract, EverythingThatMayGoIsFound) {
  PolicyTable view(GetParam().pool_count, GetParam().create());
  BlockTable& table = view.mutable_table();
  const TenantId tenant(1);
  // Long chains of which only the ends may go, and a leased one of which nothing may.
  std::vector<RowIndex> leased;
  for (int chain = 0; chain < 6; ++chain) {
    RowIndex parent = kNoRow;
    for (int i = 0; i < 60; ++i) {
      parent = view.Commit(tenant, parent);
      if (chain == 3) leased.push_back(parent);
    }
    if (chain == 3) table.Pin(parent);
  }
  for (int asked = 0; asked < 20'000 && view.Rows(tenant).size() > leased.size(); ++asked) {
    const PoolId pool(static_cast<uint8_t>(asked % static_cast<int>(view.pool_count())));
    const RowIndex victim = view.Victim(tenant, pool);
    ASSERT_FALSE(HasFailure());
    if (victim != kNoRow) view.Drop(victim);
  }
  std::sort(leased.begin(), leased.end());
  EXPECT_EQ(view.Rows(tenant), leased);
  EXPECT_EQ(view.Victim(TenantId(0), PoolId(0)), kNoRow)
      << "a tenant without chunks has no victims";
}

TEST_P(PlacementPolicyContract, NothingIsPlannedForAnEmptyTable) {
  PolicyTable view(GetParam().pool_count, GetParam().create());
  EXPECT_THAT(view.Plan(100), ::testing::IsEmpty());
  view.Commit(TenantId(0), kNoRow);
  EXPECT_THAT(view.Plan(0), ::testing::IsEmpty());
}

TEST_P(PlacementPolicyContract, ItHasAName) { EXPECT_STRNE(GetParam().create()->name(), ""); }

std::unique_ptr<PlacementPolicy> StaticSplit(std::vector<double> shares) {
  auto policy = StaticSplitPolicy::Create(std::move(shares));
  KVTIER_CHECK(policy.ok());
  return *std::move(policy);
}

INSTANTIATE_TEST_SUITE_P(
    Policies, PlacementPolicyContract,
    ::testing::Values(PolicyCase{"lru", 2, [] { return LruPolicy::Create(); }},
                      PolicyCase{"lru_one_pool", 1, [] { return LruPolicy::Create(); }},
                      PolicyCase{"lru_four_pools", 4, [] { return LruPolicy::Create(); }},
                      PolicyCase{"lfu", 2, [] { return LfuPolicy::Create(); }},
                      PolicyCase{"lfu_one_pool", 1, [] { return LfuPolicy::Create(); }},
                      PolicyCase{"s3fifo", 2, [] { return S3FifoPolicy::Create(); }},
                      PolicyCase{"s3fifo_one_pool", 1, [] { return S3FifoPolicy::Create(); }},
                      PolicyCase{"s3fifo_four_pools", 4, [] { return S3FifoPolicy::Create(); }},
                      PolicyCase{"static_even", 2,
                                 [] {
                                   return StaticSplit({0.5, 0.5});
                                 }},
                      PolicyCase{"static_three_pools", 3,
                                 [] {
                                   return StaticSplit({0.2, 0.3, 0.5});
                                 }},
                      PolicyCase{"static_all_slow", 2,
                                 [] {
                                   return StaticSplit({0, 1});
                                 }}),
    [](const auto& test) { return test.param.name; });

// --- what each policy says of itself
// --------------------------------------------------------------------------

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
