// Memory that processes outside keep is charged to the tenant that had it: it gets fresh segments
// up to twice its limit and no further, its own empty ones always, and others do not notice. Shown
// case by case, and by random steps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
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
using test_support::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr TenantId kAnna(0);
constexpr TenantId kBert(1);
constexpr Bytes kSegment = MiB(1);
constexpr Bytes kOther = KiB(512);  // another slot size
constexpr uint64_t kLimit = 3;      // of Anna's segments

class SlotAllocatorKeptTest : public ::testing::Test {
 protected:
  SlotAllocatorKeptTest() {
    auto made = SlotAllocator::Create({.id = PoolId(1),
                                       .pool = &pool_,
                                       .budget = kSegment * 16,
                                       .quota = {kSegment * kLimit, kSegment * 16}});
    EXPECT_THAT(made, IsOk());
    allocator_ = *std::move(made);
  }
  ~SlotAllocatorKeptTest() override {
    if (allocator_ != nullptr) allocator_->CheckInvariants();
  }

  // Whole segments, which `slots` are then.
  bool Allocate(TenantId tenant, ShmClientId writer, size_t count, std::vector<CopyRef>& slots,
                Bytes block_bytes = kSegment) {
    return allocator_->Allocate(tenant, block_bytes, count, slots, writer);
  }
  void FreeAll(std::vector<CopyRef>& slots) {
    for (const CopyRef slot : slots) allocator_->Free(slot);
    slots.clear();
  }
  void MapOutside(const std::vector<CopyRef>& slots) {
    for (const CopyRef slot : slots) pool_.mapped_outside.insert(slot.segment().value());
  }
  // A writer fills Anna's limit, and ends; its process maps all of it on.
  bool FillAndEnd(uint32_t writer) {
    std::vector<CopyRef> slots;
    if (!Allocate(kAnna, ShmClientId(writer), kLimit, slots)) return false;
    MapOutside(slots);
    allocator_->EndWriter(ShmClientId(writer));
    FreeAll(slots);
    return true;
  }

  FakePool pool_{kSegment, 16};
  std::unique_ptr<SlotAllocator> allocator_;
  std::vector<CopyRef> slots_;
};

TEST_F(SlotAllocatorKeptTest, ATenantHasTwiceItsLimitWithWhatItsProcessesKeep) {
  ASSERT_TRUE(FillAndEnd(1));
  EXPECT_EQ(allocator_->kept(kAnna), kSegment * 3);
  EXPECT_EQ(allocator_->RoomNow(kAnna, kSegment), kSegment * 3);
  ASSERT_TRUE(FillAndEnd(2)) << "slow to unmap is no crime";
  EXPECT_EQ(allocator_->kept(kAnna), kSegment * 6);
  EXPECT_EQ(allocator_->RoomNow(kAnna, kSegment), Bytes(0));
  const uint64_t asked = pool_.add_calls;
  EXPECT_FALSE(Allocate(kAnna, ShmClientId(3), 1, slots_));
  EXPECT_FALSE(Allocate(kAnna, {}, 1, slots_)) << "whoever asks for it";
  EXPECT_EQ(pool_.add_calls, asked);
  EXPECT_THAT(allocator_->growth(kAnna),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("keep 6 segments of 1 MiB"), HasSubstr("beyond 6"))));
  EXPECT_THAT(allocator_->growth(kBert), IsOk()) << "another's matter";

  // Another tenant does not notice.
  std::vector<CopyRef> berts;
  EXPECT_TRUE(Allocate(kBert, {}, 16, berts));
  FreeAll(berts);

  pool_.kept_for[kAnna] = 5;
  EXPECT_EQ(allocator_->RoomNow(kAnna, kSegment), kSegment);
  EXPECT_FALSE(Allocate(kAnna, {}, 2, slots_));
  EXPECT_TRUE(Allocate(kAnna, {}, 1, slots_));
  EXPECT_THAT(allocator_->growth(kAnna), IsOk());
}

TEST_F(SlotAllocatorKeptTest, ReleasedSegmentsAreTheirOwners) {
  ASSERT_TRUE(Allocate(kBert, {}, 1, slots_));
  FreeAll(slots_);
  ASSERT_TRUE(Allocate(kAnna, ShmClientId(1), 1, slots_));
  FreeAll(slots_);
  pool_.segments_that_fit = 2;
  // What lies empty goes back for it, and is charged to who emptied it.
  MapOutside({CopyRef(PoolId(1), SegmentIndex(0), 0), CopyRef(PoolId(1), SegmentIndex(1), 0)});
  ASSERT_TRUE(Allocate(kAnna, {}, 1, slots_));
  EXPECT_EQ(pool_.released_by, std::vector<TenantId>({kBert}));
  ASSERT_TRUE(Allocate(kAnna, {}, 1, slots_));
  EXPECT_EQ(pool_.released_by, std::vector<TenantId>({kBert, kAnna}));
  EXPECT_EQ(allocator_->kept(kAnna), kSegment);
  EXPECT_EQ(allocator_->kept(kBert), kSegment);
  allocator_.reset();
  EXPECT_EQ(pool_.released_by, std::vector<TenantId>({kBert, kAnna, kAnna, kAnna}));
}

TEST_F(SlotAllocatorKeptTest, OwnEmptySegmentsAreUsedAgainWhateverIsKept) {
  const ShmClientId writer(1);
  ASSERT_TRUE(Allocate(kAnna, writer, 2, slots_));
  FreeAll(slots_);
  pool_.kept_for[kAnna] = 100;
  EXPECT_EQ(allocator_->RoomNow(kAnna, kSegment, writer), kSegment * 2);
  EXPECT_FALSE(Allocate(kAnna, writer, 3, slots_));
  EXPECT_EQ(pool_.released_by.size(), 0u) << "no other ones are empty";
  EXPECT_TRUE(Allocate(kAnna, writer, 2, slots_));
  FreeAll(slots_);
}

TEST_F(SlotAllocatorKeptTest, OtherEmptyOnesGoBackFirstSoThatNobodyWaitsForThem) {
  // Bert's do not: he is not asked to help her.
  std::vector<CopyRef> berts;
  ASSERT_TRUE(Allocate(kBert, ShmClientId(1), 2, berts));
  FreeAll(berts);
  ASSERT_TRUE(Allocate(kBert, {}, 2, berts));
  FreeAll(berts);
  // Writers one after the other empty all that Anna may have. She has no more than that in hand.
  const ShmClientId first(2), second(3), third(4);
  for (const ShmClientId writer : {first, second}) {
    ASSERT_TRUE(Allocate(kAnna, writer, kLimit, slots_));
    FreeAll(slots_);
  }
  EXPECT_EQ(pool_.released_by, std::vector<TenantId>(kLimit, kAnna));
  EXPECT_EQ(allocator_->segments(), 4 + kLimit);
  EXPECT_EQ(allocator_->RoomNow(kAnna, kSegment, third), kSegment * kLimit);
  // One for one, and nobody waits until those that went are unmapped.
  for (const uint32_t segment : pool_.segments) pool_.mapped_outside.insert(segment);
  for (size_t i = 1; i <= kLimit; ++i) {
    ASSERT_TRUE(Allocate(kAnna, third, 1, slots_));
    EXPECT_EQ(pool_.released_by.size(), kLimit + i);
    EXPECT_EQ(allocator_->kept(kAnna), kSegment * static_cast<int64_t>(i));
    EXPECT_EQ(allocator_->segments(), 4 + kLimit);
    EXPECT_FALSE(allocator_->keeps_too_much(kAnna));
  }
  // She keeps her limit and has it once more: that is all.
  FreeAll(slots_);
  for (const uint32_t segment : pool_.segments) pool_.mapped_outside.insert(segment);
  EXPECT_FALSE(Allocate(kAnna, first, 1, slots_));
  EXPECT_TRUE(allocator_->keeps_too_much(kAnna));
  pool_.kept_for[kAnna] = 0;
  EXPECT_FALSE(allocator_->keeps_too_much(kAnna));
  EXPECT_TRUE(Allocate(kAnna, first, 1, slots_));
}

TEST_F(SlotAllocatorKeptTest, ABudgetBelowTheQuotaIsTheLimit) {
  ASSERT_THAT(allocator_->SetBudget(kSegment * 2), IsOk());
  pool_.kept_for[kAnna] = 3;
  EXPECT_FALSE(Allocate(kAnna, {}, 2, slots_));
  EXPECT_TRUE(Allocate(kAnna, {}, 1, slots_));
}

TEST_F(SlotAllocatorKeptTest, RandomWritersNeverHoldMoreThanTwiceTheLimit) {
  Rng rng(test_support::TestSeed(20261121));
  struct Use {
    ShmClientId writer;
    std::vector<CopyRef> slots;
  };
  std::vector<Use> uses;
  uint32_t writers = 4;  // the last four live
  uint64_t refused = 0, granted = 0, most = 0;
  for (int step = 0; step < 20'000; ++step) {
    const uint64_t choice = rng.Below(100);
    if (choice < 40) {
      const auto writer = static_cast<uint32_t>(rng.Below(5));
      Use use{.writer = ShmClientId(writer == 4 ? 0 : writers - writer), .slots = {}};
      const Bytes block_bytes = rng.Below(2) == 0 ? kSegment : kOther;
      const Bytes room = allocator_->RoomNow(kAnna, block_bytes, use.writer);
      const size_t count = 1 + rng.Below(3);
      const bool ok = Allocate(kAnna, use.writer, count, use.slots, block_bytes);
      // What is said to be no room is none.
      if (ok) {
        ASSERT_GE(room, block_bytes * static_cast<int64_t>(count));
      }
      ++(ok ? granted : refused);
      if (ok && rng.Below(2) == 0) MapOutside(use.slots);
      if (ok) uses.push_back(std::move(use));
    } else if (choice < 80) {
      if (uses.empty()) continue;
      std::swap(uses[rng.Below(uses.size())], uses.back());
      FreeAll(uses.back().slots);
      uses.pop_back();
    } else if (choice < 85) {
      allocator_->EndWriter(ShmClientId(++writers - 4));
    } else if (pool_.kept_for[kAnna] > 0) {
      pool_.kept_for[kAnna] -= 1 + rng.Below(pool_.kept_for[kAnna]);
    }
    const uint64_t all = pool_.kept_for[kAnna] + allocator_->segments();
    ASSERT_LE(all, 2 * kLimit) << "after step " << step;
    most = std::max(most, all);
    if (step % 100 == 0) allocator_->CheckInvariants();
  }
  EXPECT_EQ(most, 2 * kLimit);
  EXPECT_GT(granted, 1000u);
  EXPECT_GT(refused, 1000u);
  // Once all is unmapped, whoever asks has the whole limit.
  for (Use& use : uses) FreeAll(use.slots);
  pool_.mapped_outside.clear();
  pool_.kept_for.clear();
  EXPECT_TRUE(Allocate(kAnna, ShmClientId(writers + 1), kLimit, slots_));
}

}  // namespace
}  // namespace kvtier
