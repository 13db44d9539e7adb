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

#include "tests/support/policy_table.h"
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

struct PolicyCase {
  std::string name;
  size_t pool_count = 2;
  std::function<std::unique_ptr<PlacementPolicy>()> create;
};

class PlacementPolicyContract : public ::testing::TestWithParam<PolicyCase> {};

// A few hundred steps in the life of a table; the trace of every answer.
std::vector<uint64_t> Live(const PolicyCase& policy_case, uint64_t seed, int steps) {
  PolicyTable view(policy_case.pool_count, policy_case.create());
  BlockCatalog& table = view.mutable_table();
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
  BlockCatalog& table = view.mutable_table();
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

}  // namespace
}  // namespace kvtier::test_support
