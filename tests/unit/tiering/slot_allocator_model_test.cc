// SlotAllocator under random operations agrees with a naive model of sets that says for every call
// whether it must succeed and how long the run it comes from must be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/fake_pool.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"
#include "tiering/memory/slot_allocator.h"

namespace kvtier {
namespace {

using test_support::FakePool;
using test_support::IsOk;

constexpr PoolId kPool(2);

std::unique_ptr<SlotAllocator> MakeAllocator(FakePool& pool, Bytes budget,
                                             std::vector<Bytes> quota) {
  auto allocator = SlotAllocator::Create(
      {.id = kPool, .pool = &pool, .budget = budget, .quota = std::move(quota)});
  EXPECT_THAT(allocator, IsOk());
  return *std::move(allocator);
}

bool SideBySide(const std::vector<CopyRef>& slots) {
  for (size_t i = 1; i < slots.size(); ++i) {
    if (slots[i].segment() != slots[0].segment() || slots[i].slot() != slots[0].slot() + i)
      return false;
  }
  return true;
}

// What the allocator must do, from sets of slots alone.
class NaiveModel {
 public:
  NaiveModel(Bytes segment_bytes, std::vector<Bytes> quota)
      : segment_bytes_(segment_bytes), quota_(std::move(quota)) {}

  struct Segment {
    TenantId tenant;
    Bytes slot_bytes;
    std::set<uint32_t> used;
  };

  // Lengths of the free runs in the segments that the tenant has with that size.
  std::multiset<uint64_t> FreeRuns(TenantId tenant, Bytes slot_bytes) const {
    std::multiset<uint64_t> runs;
    for (const auto& [index, segment] : segments) {
      if (segment.tenant != tenant || segment.slot_bytes != slot_bytes) continue;
      uint32_t next = 0;
      for (const uint32_t slot : segment.used) {
        if (slot > next) runs.insert(slot - next);
        next = slot + 1;
      }
      const uint32_t count = static_cast<uint32_t>(segment_bytes_ / slot_bytes);
      if (count > next) runs.insert(count - next);
    }
    return runs;
  }
  uint64_t Held(TenantId tenant) const {
    uint64_t held = 0;
    for (const auto& [index, segment] : segments) held += segment.tenant == tenant ? 1 : 0;
    return held;
  }
  Bytes Used(TenantId tenant) const {
    Bytes used;
    for (const auto& [index, segment] : segments) {
      if (segment.tenant == tenant)
        used += segment.slot_bytes * static_cast<int64_t>(segment.used.size());
    }
    return used;
  }
  uint64_t NeededSegments(TenantId tenant, Bytes slot_bytes, uint64_t count) const {
    uint64_t free = 0;
    for (const uint64_t run : FreeRuns(tenant, slot_bytes)) free += run;
    const uint64_t each = static_cast<uint64_t>(segment_bytes_ / slot_bytes);
    return free >= count ? 0 : (count - free + each - 1) / each;
  }
  uint64_t QuotaSegments(TenantId tenant) const {
    return static_cast<uint64_t>(quota_[tenant.value()] / segment_bytes_);
  }

  std::map<uint32_t, Segment> segments;  // those in use
  uint64_t Empty() const {
    uint64_t sum = 0;
    for (const auto& [tenant, count] : empty) sum += count;
    return sum;
  }
  uint64_t Taken() const { return segments.size() + Empty(); }
  // Gives the pool an empty segment of the first tenant that has one and is not `other_than`.
  bool ReleaseOne(std::optional<TenantId> other_than) {
    for (auto& [tenant, count] : empty) {
      if (count == 0 || tenant == other_than) continue;
      --count;
      return true;
    }
    return false;
  }

  std::map<TenantId, uint64_t> empty;  // by who emptied them

 private:
  Bytes segment_bytes_;
  std::vector<Bytes> quota_;
};

class RandomOperations {
 public:
  explicit RandomOperations(uint64_t seed)
      : rng_(seed),
        model_(kSegmentBytes, {KiB(256) * 5, KiB(256) * 7, Bytes(0)}),
        pool_(kSegmentBytes, 12) {
    allocator_ = MakeAllocator(pool_, KiB(256) * 10, {KiB(256) * 5, KiB(256) * 7, Bytes(0)});
  }

  void Step() {
    const uint64_t kind = rng_.Below(100);
    if (kind < 45) {
      AllocateSome();
    } else if (kind < 97) {
      FreeSome();
    } else if (kind < 98) {
      SetBudget();
    } else {
      pool_.adds_before_failure = rng_.OneIn(2) ? rng_.Below(3) : ~0ull;
    }
    Compare();
  }

  int refused_by_quota = 0;
  int refused_by_budget = 0;
  int refused_by_pool = 0;
  int passed_on = 0;  // segments of one tenant that another got
  int scattered = 0;  // allocations of several runs

 private:
  static constexpr Bytes kSegmentBytes = KiB(256);

  uint64_t BudgetSegments() const {
    return static_cast<uint64_t>(allocator_->budget() / kSegmentBytes);
  }

  void AllocateSome() {
    // 4096, 168, 25 and 2 slots a segment.
    static constexpr Bytes kSizes[] = {Bytes(1), Bytes(1500), KiB(10), KiB(100)};
    const TenantId tenant(static_cast<uint16_t>(rng_.OneIn(20) ? 2 : rng_.Below(2)));
    const Bytes block_bytes = kSizes[rng_.Below(4)];
    const Bytes slot_bytes = allocator_->SlotBytes(block_bytes);
    const uint64_t each = static_cast<uint64_t>(kSegmentBytes / slot_bytes);
    const uint64_t count =
        rng_.OneIn(3) ? rng_.Below(2 * each + 2) : 1 + rng_.Below(std::min<uint64_t>(each, 70));
    const std::multiset<uint64_t> runs = model_.FreeRuns(tenant, slot_bytes);
    const uint64_t needed = model_.NeededSegments(tenant, slot_bytes, count);
    const uint64_t own = std::min(needed, model_.empty[tenant]);
    const uint64_t to_add = needed - own;
    const uint64_t others = model_.Empty() - model_.empty[tenant];
    const bool fits = needed == 0 || model_.Held(tenant) + needed <= model_.QuotaSegments(tenant);
    const bool in_budget = to_add == 0 || model_.Taken() + to_add <= BudgetSegments() + others;
    const bool expected = fits && in_budget && to_add <= pool_.adds_before_failure;
    if (fits && in_budget) AddSegments(tenant, to_add);
    const uint64_t adds_before = pool_.adds_before_failure;
    std::vector<CopyRef> slots;
    ASSERT_EQ(allocator_->Allocate(tenant, block_bytes, count, slots), expected)
        << "count " << count << " needed " << needed << " to add " << to_add;
    if (!expected) {
      ++(!fits ? refused_by_quota : !in_budget ? refused_by_budget : refused_by_pool);
      ASSERT_TRUE(slots.empty());
      return;
    }
    if (adds_before != ~0ull) {
      ASSERT_EQ(pool_.adds_before_failure, adds_before - to_add);
    }
    ASSERT_EQ(slots.size(), count);
    model_.empty[tenant] -= own;
    scattered += SideBySide(slots) ? 0 : 1;
    // One run if there was one, and of those up to 64 slots the shortest.
    const auto shortest = runs.lower_bound(count);
    if (count > 0 && (shortest != runs.end() || (needed == 1 && count <= each))) {
      ASSERT_TRUE(SideBySide(slots)) << count;
    }
    for (const CopyRef slot : slots) {
      ASSERT_EQ(slot.pool(), kPool);
      NaiveModel::Segment& segment = model_.segments[slot.segment().value()];
      if (segment.used.empty()) {
        segment.tenant = tenant;
        segment.slot_bytes = slot_bytes;
      }
      ASSERT_EQ(segment.tenant, tenant);
      ASSERT_EQ(segment.slot_bytes, slot_bytes);
      ASSERT_LT(slot.slot(), each);
      ASSERT_TRUE(segment.used.insert(slot.slot()).second) << "slot handed out twice";
      allocator_->SetOwner(slot, slot.bits());
    }
    if (count > 0 && count <= 64 && shortest != runs.end()) {
      // Take the run that should have been used out of the old ones, put its rest in: that must be
      // what is there now.
      std::multiset<uint64_t> expected_runs = runs;
      expected_runs.erase(expected_runs.find(*shortest));
      // Above 64 slots the choice is free: compare only where it is not.
      if (*shortest <= 64) {
        if (*shortest > count) expected_runs.insert(*shortest - count);
        ASSERT_EQ(model_.FreeRuns(tenant, slot_bytes), expected_runs);
      }
    }
    groups_.push_back(std::move(slots));
  }

  // What the pool is asked for: others' empty segments make room in the budget, and where the pool
  // refuses.
  void AddSegments(TenantId tenant, uint64_t count) {
    const uint64_t before = model_.Taken();
    uint64_t others_released = 0;
    uint64_t added = 0;
    for (; added < count; ++added) {
      if (before - others_released + added >= BudgetSegments()) {
        ASSERT_TRUE(model_.ReleaseOne(tenant));
        ++others_released;
      }
      if (added < pool_.adds_before_failure) continue;
      others_released += model_.ReleaseOne(tenant) ? 1 : 0;
      break;
    }
    passed_on += added == count ? static_cast<int>(others_released) : 0;
  }

  void FreeSome() {
    if (groups_.empty()) return;
    std::vector<CopyRef>& group = groups_[rng_.Below(groups_.size())];
    // A whole group or one slot of it.
    const bool whole = rng_.OneIn(2);
    do {
      if (group.empty()) break;
      std::swap(group[rng_.Below(group.size())], group.back());
      FreeOne(group.back());
      group.pop_back();
    } while (whole);
    if (group.empty()) {
      std::swap(group, groups_.back());
      groups_.pop_back();
    }
  }

  void FreeOne(CopyRef slot) {
    ASSERT_EQ(allocator_->owner(slot), slot.bits());
    allocator_->Free(slot);
    const auto found = model_.segments.find(slot.segment().value());
    ASSERT_EQ(found->second.used.erase(slot.slot()), 1u);
    if (!found->second.used.empty()) return;
    const TenantId tenant = found->second.tenant;
    model_.segments.erase(found);
    ++model_.empty[tenant];
    ReleaseEmpty();
  }

  void SetBudget() {
    ASSERT_THAT(allocator_->SetBudget(kSegmentBytes * static_cast<int64_t>(rng_.Below(13))),
                IsOk());
    ReleaseEmpty();
  }

  void ReleaseEmpty() {
    while (model_.Taken() > BudgetSegments() && model_.ReleaseOne(std::nullopt)) {
    }
  }

  void Compare() {
    allocator_->CheckInvariants();
    Bytes used;
    for (const TenantId tenant : {TenantId(0), TenantId(1), TenantId(2)}) {
      ASSERT_EQ(allocator_->used(tenant), model_.Used(tenant));
      ASSERT_EQ(allocator_->held(tenant),
                kSegmentBytes * static_cast<int64_t>(model_.Held(tenant)));
      used += model_.Used(tenant);
    }
    const int64_t in_use = static_cast<int64_t>(model_.segments.size());
    ASSERT_EQ(allocator_->used(), used);
    ASSERT_EQ(allocator_->held(), kSegmentBytes * in_use);
    ASSERT_EQ(allocator_->segments(), model_.Taken());
    ASSERT_EQ(pool_.segments.size(), model_.Taken());
    ASSERT_EQ(allocator_->excess(),
              std::max(Bytes(0), kSegmentBytes * in_use - allocator_->budget()));
  }

  Rng rng_;
  NaiveModel model_;
  FakePool pool_;
  std::unique_ptr<SlotAllocator> allocator_;
  std::vector<std::vector<CopyRef>> groups_;
};

TEST(SlotAllocatorTest, RandomOperationsAgreeWithTheNaiveModel) {
  RandomOperations operations(test_support::TestSeed(20240611));
  for (int step = 0; step < 12000 && !testing::Test::HasFatalFailure(); ++step) {
    SCOPED_TRACE(step);
    operations.Step();
  }
  // The cases that matter came up.
  EXPECT_GT(operations.refused_by_quota, 50);
  EXPECT_GT(operations.refused_by_budget, 50);
  EXPECT_GT(operations.refused_by_pool, 10);
  EXPECT_GT(operations.passed_on, 50);
  EXPECT_GT(operations.scattered, 50);
}

}  // namespace
}  // namespace kvtier
