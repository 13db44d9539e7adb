// SlotAllocator under random operations, of tenants and of writers with inboxes, agrees with a
// naive model of sets that says for every call whether it must succeed, how long the run it comes
// from must be, and which use of a segment it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/fake_pool.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tests/unit/tiering/naive_slots.h"
#include "tiering/base/rng.h"
#include "tiering/memory/slot_allocator.h"

namespace kvtier {
namespace {

using test_support::FakePool;
using test_support::IsOk;

constexpr PoolId kPool(2);

std::unique_ptr<SlotAllocator> MakeAllocator(FakePool& pool, Bytes budget, std::vector<Bytes> quota,
                                             bool inboxes_limited) {
  auto allocator = SlotAllocator::Create({.id = kPool,
                                          .pool = &pool,
                                          .budget = budget,
                                          .quota = std::move(quota),
                                          .inboxes_limited = inboxes_limited});
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

class RandomOperations {
 public:
  RandomOperations(uint64_t seed, bool inboxes_limited)
      : inboxes_limited_(inboxes_limited),
        rng_(seed),
        model_(kSegmentBytes, {KiB(256) * 5, KiB(256) * 7, Bytes(0)}),
        pool_(kSegmentBytes, 12) {
    allocator_ = MakeAllocator(pool_, KiB(256) * 10, {KiB(256) * 5, KiB(256) * 7, Bytes(0)},
                               inboxes_limited);
  }

  void Step() {
    const uint64_t kind = rng_.Below(100);
    if (kind < 45) {
      AllocateSome();
    } else if (kind < 48) {
      RetireSome();
    } else if (kind < 96) {
      FreeSome();
    } else if (kind < 97) {
      EndWriter();
    } else if (kind < 98) {
      SetBudget();
    } else {
      pool_.adds_before_failure = rng_.OneIn(2) ? rng_.Below(3) : ~0ull;
    }
    Compare();
  }

  int refused_by_quota = 0;
  int refused_by_inboxes = 0;  // and by nothing else
  int refused_by_budget = 0;
  int refused_by_pool = 0;
  int passed_on = 0;  // segments of one tenant that another got
  int scattered = 0;  // allocations of several runs
  int inboxes = 0;    // allocations by writers
  int ended_with_slots = 0;
  int taken_back = 0;  // empty inboxes that their writer got again
  int room_to_come = 0;

 private:
  static constexpr Bytes kSegmentBytes = KiB(256);

  uint64_t BudgetSegments() const {
    return static_cast<uint64_t>(allocator_->budget() / kSegmentBytes);
  }

  uint64_t InboxesMax(TenantId tenant) const {
    const uint64_t limit = std::min(model_.QuotaSegments(tenant), BudgetSegments());
    return inboxes_limited_ ? limit * 2 / 3 : limit;
  }
  bool AtInboxesMax(TenantId tenant) const { return model_.Inboxes(tenant) >= InboxesMax(tenant); }

  void AllocateSome() {
    // 4096, 168, 25 and 2 slots a segment.
    static constexpr Bytes kSizes[] = {Bytes(1), Bytes(1500), KiB(10), KiB(100)};
    TenantId tenant(static_cast<uint16_t>(rng_.OneIn(20) ? 2 : rng_.Below(2)));
    uint32_t writer = 0;
    if (rng_.OneIn(2)) {
      writer = writers_[rng_.Below(writers_.size())];
      tenant = TenantOf(writer);
    }
    const Bytes block_bytes = kSizes[rng_.Below(4)];
    const Bytes slot_bytes = allocator_->SlotBytes(block_bytes);
    const uint64_t each = static_cast<uint64_t>(kSegmentBytes / slot_bytes);
    const uint64_t count =
        rng_.OneIn(3) ? rng_.Below(2 * each + 2) : 1 + rng_.Below(std::min<uint64_t>(each, 70));
    const std::multiset<uint64_t> runs = model_.FreeRuns(tenant, slot_bytes, writer);
    const uint64_t needed = model_.NeededSegments(tenant, slot_bytes, writer, count);
    const NaiveSlots::Emptier emptier = NaiveSlots::EmptierOf(tenant, slot_bytes, writer);
    const uint64_t own = std::min(needed, model_.empty[emptier]);
    const uint64_t to_add = needed - own;
    const uint64_t others = model_.Empty() - model_.empty[emptier];
    const bool in_quota =
        needed == 0 || model_.Held(tenant) + needed <= model_.QuotaSegments(tenant);
    const bool few_inboxes =
        writer == 0 || needed == 0 || model_.Inboxes(tenant) + needed <= InboxesMax(tenant);
    const bool fits = in_quota && few_inboxes;
    const bool in_budget = to_add == 0 || model_.Taken() + to_add <= BudgetSegments() + others;
    const bool expected = fits && in_budget && to_add <= pool_.adds_before_failure;
    ASSERT_EQ(slot_bytes * static_cast<int64_t>(count) <=
                  allocator_->RoomNow(tenant, block_bytes, ShmClientId(writer)),
              fits && in_budget);
    if (fits && in_budget && to_add > 0) GiveBackBeyondLimit(tenant, emptier, to_add);
    if (fits && in_budget) AddSegments(emptier, to_add);
    const uint64_t adds_before = pool_.adds_before_failure;
    std::vector<CopyRef> slots;
    ASSERT_EQ(allocator_->Allocate(tenant, block_bytes, count, slots, ShmClientId(writer)),
              expected)
        << "count " << count << " needed " << needed << " to add " << to_add;
    if (!expected) {
      refused_by_inboxes += in_quota && in_budget && !few_inboxes ? 1 : 0;
      ++(!fits ? refused_by_quota : !in_budget ? refused_by_budget : refused_by_pool);
      ASSERT_TRUE(slots.empty());
      return;
    }
    if (adds_before != ~0ull) {
      ASSERT_EQ(pool_.adds_before_failure, adds_before - to_add);
    }
    ASSERT_EQ(slots.size(), count);
    model_.empty[emptier] -= own;
    inboxes += writer != 0 ? 1 : 0;
    taken_back += writer != 0 && own > 0 ? 1 : 0;
    scattered += SideBySide(slots) ? 0 : 1;
    // One run if there was one, and of those up to 64 slots the shortest.
    const auto shortest = runs.lower_bound(count);
    if (count > 0 && (shortest != runs.end() || (needed == 1 && count <= each))) {
      ASSERT_TRUE(SideBySide(slots)) << count;
    }
    for (const CopyRef slot : slots) {
      ASSERT_EQ(slot.pool(), kPool);
      NaiveSlots::Segment& segment = model_.segments[slot.segment().value()];
      if (segment.used.empty()) {
        segment.tenant = tenant;
        segment.slot_bytes = slot_bytes;
        segment.writer = writer;
        ASSERT_NO_FATAL_FAILURE(CheckUse(slot.segment(), segment));
      }
      ASSERT_EQ(segment.tenant, tenant);
      ASSERT_EQ(segment.writer, writer) << "a slot in an inbox of another writer";
      ASSERT_EQ(segment.slot_bytes, slot_bytes);
      ASSERT_LT(slot.slot(), each);
      ASSERT_TRUE(segment.used.insert(slot.slot()).second) << "slot handed out twice";
      model_.newest[writer] = slot.segment().value();
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
        ASSERT_EQ(model_.FreeRuns(tenant, slot_bytes, writer), expected_runs);
      }
    }
    groups_.push_back(std::move(slots));
  }

  // What the pool is asked for: others' empty segments make room in the budget, and where the pool
  // refuses.
  // With those to come a tenant has its limit at most in use and empty, as far as others of its
  // empty ones can go.
  void GiveBackBeyondLimit(TenantId tenant, NaiveSlots::Emptier emptier, uint64_t to_add) {
    const auto is_tenants = [tenant](NaiveSlots::Emptier other) {
      return other.first == 0 ? other.second == tenant.value() : TenantOf(other.first) == tenant;
    };
    uint64_t in_hand = model_.Held(tenant) + to_add;
    for (const auto& [other, count] : model_.empty) in_hand += is_tenants(other) ? count : 0;
    for (auto& [other, count] : model_.empty) {
      for (; is_tenants(other) && other != emptier && count > 0; --count, --in_hand) {
        if (in_hand <= std::min(model_.QuotaSegments(tenant), BudgetSegments())) return;
      }
    }
  }

  void AddSegments(NaiveSlots::Emptier emptier, uint64_t count) {
    const uint64_t before = model_.Taken();
    uint64_t others_released = 0;
    uint64_t added = 0;
    for (; added < count; ++added) {
      if (before - others_released + added >= BudgetSegments()) {
        ASSERT_TRUE(model_.ReleaseOne(emptier));
        ++others_released;
      }
      if (added < pool_.adds_before_failure) continue;
      others_released += model_.ReleaseOne(emptier) ? 1 : 0;
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
    const auto found = model_.segments.find(slot.segment().value());
    NaiveSlots::Segment& segment = found->second;
    const bool was_retired = segment.retired.erase(slot.slot()) == 1;
    ASSERT_EQ(allocator_->owner(slot), was_retired ? kNoRow : slot.bits());
    allocator_->Free(slot);
    ASSERT_EQ(segment.used.erase(slot.slot()), 1u);
    if (!segment.used.empty()) return;
    // Nobody gets what an ended writer may have mapped.
    if (!model_.ended.contains(segment.writer))
      ++model_.empty[NaiveSlots::EmptierOf(segment.tenant, segment.slot_bytes, segment.writer)];
    std::erase_if(model_.newest, [&](const auto& entry) { return entry.second == found->first; });
    model_.segments.erase(found);
    ReleaseEmpty();
  }

  void RetireSome() {
    if (groups_.empty()) return;
    for (const CopyRef slot : groups_[rng_.Below(groups_.size())]) {
      if (rng_.OneIn(8)) continue;
      std::set<uint32_t>& retired = model_.segments.at(slot.segment().value()).retired;
      if (retired.insert(slot.slot()).second) allocator_->Retire(slot);
    }
  }

  // Its process is gone; another one comes.
  void EndWriter() {
    uint32_t& writer = writers_[rng_.Below(writers_.size())];
    const bool has_slots =
        std::any_of(model_.segments.begin(), model_.segments.end(),
                    [&](const auto& entry) { return entry.second.writer == writer; });
    ended_with_slots += has_slots ? 1 : 0;
    allocator_->EndWriter(ShmClientId(writer));
    if (rng_.OneIn(2)) allocator_->EndWriter(ShmClientId(writer));
    std::erase_if(model_.empty, [&](const auto& entry) { return entry.first.first == writer; });
    model_.ended.insert(writer);
    model_.newest.erase(writer);
    writer += static_cast<uint32_t>(writers_.size());
  }

  // Writers 1, 3, ... are of the first tenant.
  static TenantId TenantOf(uint32_t writer) {
    return TenantId(static_cast<uint16_t>((writer + 1) % 2));
  }

  // A segment that was empty has slots again.
  void CheckUse(SegmentIndex index, const NaiveSlots::Segment& segment) {
    const auto use = allocator_->UseOf(index);
    ASSERT_TRUE(use.has_value());
    NaiveSlots::Use& before = model_.uses[index.value()];
    const bool fresh = before.adds != pool_.adds_of[index.value()];
    ASSERT_TRUE(fresh || before.tenant == segment.tenant) << "passed on with its bytes";
    ASSERT_TRUE(fresh || before.writer == segment.writer) << "passed on with a mapping";
    const bool same = !fresh && before.slot_bytes == segment.slot_bytes;
    ASSERT_TRUE(segment.writer == 0 || fresh || same) << "mapped for another slot size";
    if (same) {
      ASSERT_EQ(use->incarnation, before.incarnation);
    } else {
      ASSERT_GT(use->incarnation, before.incarnation);
      ASSERT_FALSE(use->granted);
    }
    before = {use->incarnation, segment.tenant, segment.slot_bytes, segment.writer,
              pool_.adds_of[index.value()]};
    if (segment.writer == 0 || use->granted || rng_.OneIn(2)) return;
    allocator_->MarkGranted(index);
    allocator_->MarkSealed(index);
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
    for (const auto& [index, segment] : model_.segments) {
      const auto use = allocator_->UseOf(SegmentIndex(index));
      ASSERT_TRUE(use.has_value());
      ASSERT_EQ(use->tenant, segment.tenant);
      ASSERT_EQ(use->writer, ShmClientId(segment.writer));
      ASSERT_EQ(use->slot_bytes, segment.slot_bytes);
      ASSERT_EQ(use->slots, static_cast<uint32_t>(kSegmentBytes / segment.slot_bytes));
      ASSERT_EQ(use->used_slots, segment.used.size());
      ASSERT_EQ(use->retired_slots, segment.retired.size());
      const auto newest = model_.newest.find(segment.writer);
      ASSERT_EQ(use->newest,
                segment.writer != 0 && newest != model_.newest.end() && newest->second == index);
      ASSERT_EQ(use->incarnation, model_.uses[index].incarnation);
      ASSERT_EQ(use->sealed, segment.writer == 0 || use->granted);
      const CopyRef slot(kPool, SegmentIndex(index), *segment.used.begin());
      ASSERT_EQ(allocator_->Incarnation(slot), use->incarnation);
    }
    const Bytes size = allocator_->SlotBytes(KiB(10));
    const uint32_t writer = rng_.OneIn(2) ? 0 : writers_[rng_.Below(writers_.size())];
    const TenantId tenant = TenantOf(writer);
    ASSERT_EQ(allocator_->RoomToCome(tenant, size, ShmClientId(writer)),
              model_.RoomToCome(tenant, size, writer));
    room_to_come += model_.RoomToCome(tenant, size, writer) > Bytes(0) ? 1 : 0;
    ASSERT_EQ(allocator_->EmptiestSegments(tenant, size, ShmClientId(writer), 100),
              model_.Emptiest(tenant, size, writer, writer != 0 && AtInboxesMax(tenant)));
    ASSERT_EQ(allocator_->inboxes(tenant), model_.Inboxes(tenant));
    ASSERT_EQ(allocator_->inboxes_max(tenant), InboxesMax(tenant));
    ASSERT_EQ(allocator_->free_in_inboxes(tenant), model_.FreeInInboxes(tenant));
    ASSERT_EQ(allocator_->HasSegment(tenant, size, ShmClientId(writer)),
              model_.HasSegment(tenant, size, writer));
    ASSERT_EQ(allocator_->EmptiestInboxes(tenant, 100), model_.EmptiestInboxes(tenant));
    const int64_t in_use = static_cast<int64_t>(model_.segments.size());
    ASSERT_EQ(allocator_->used(), used);
    ASSERT_EQ(allocator_->held(), kSegmentBytes * in_use);
    ASSERT_EQ(allocator_->segments(), model_.Taken());
    ASSERT_EQ(pool_.segments.size(), model_.Taken());
    ASSERT_EQ(allocator_->excess(),
              std::max(Bytes(0), kSegmentBytes * in_use - allocator_->budget()));
    ASSERT_EQ(allocator_->excess_once_freed(),
              std::max(Bytes(0), kSegmentBytes * model_.HeldOnceFreed() - allocator_->budget()));
    ASSERT_EQ(allocator_->retired(), model_.Retired());
  }

  const bool inboxes_limited_;
  Rng rng_;
  NaiveSlots model_;
  FakePool pool_;
  std::unique_ptr<SlotAllocator> allocator_;
  std::vector<std::vector<CopyRef>> groups_;
  std::vector<uint32_t> writers_ = {1, 2, 3};
};

class SlotAllocatorModel : public ::testing::TestWithParam<bool> {};

TEST_P(SlotAllocatorModel, RandomOperationsAgreeWithTheNaiveSlots) {
  const bool inboxes_limited = GetParam();
  RandomOperations operations(test_support::TestSeed(20240611), inboxes_limited);
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
  EXPECT_GT(operations.inboxes, 500);
  EXPECT_GT(operations.ended_with_slots, 20);
  EXPECT_GT(operations.taken_back, 20);
  EXPECT_GT(operations.room_to_come, 100);
  if (inboxes_limited) {
    EXPECT_GT(operations.refused_by_inboxes, 50);
  }
}

INSTANTIATE_TEST_SUITE_P(, SlotAllocatorModel, ::testing::Bool(), [](const auto& limited) {
  return limited.param ? "InboxesLimited" : "InboxesUnlimited";
});

}  // namespace
}  // namespace kvtier
