// SlotAllocator hands out neighbouring runs, keeps quota and budget, reuses emptied segments for
// another size or tenant, and changes nothing when it refuses: shown case by case.
#include "tiering/memory/slot_allocator.h"

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

namespace kvtier {
namespace {

using test_support::FakePool;
using test_support::IsOk;
using test_support::StatusIs;
using ::testing::HasSubstr;

constexpr TenantId kAnna(0);
constexpr TenantId kBert(1);
constexpr PoolId kPool(2);

std::unique_ptr<SlotAllocator> MakeAllocator(FakePool& pool, Bytes budget,
                                             std::vector<Bytes> quota) {
  auto allocator = SlotAllocator::Create(
      {.id = kPool, .pool = &pool, .budget = budget, .quota = std::move(quota)});
  EXPECT_THAT(allocator, IsOk());
  return *std::move(allocator);
}

std::unique_ptr<SlotAllocator> MakeAllocator(FakePool& pool) {
  const Bytes all = pool.segment_bytes() * pool.segments_max();
  return MakeAllocator(pool, all, {all, all});
}

std::vector<CopyRef> Allocate(SlotAllocator& allocator, TenantId tenant, Bytes block_bytes,
                              size_t count) {
  std::vector<CopyRef> slots;
  EXPECT_TRUE(allocator.Allocate(tenant, block_bytes, count, slots));
  EXPECT_EQ(slots.size(), count);
  return slots;
}

bool SideBySide(const std::vector<CopyRef>& slots) {
  for (size_t i = 1; i < slots.size(); ++i) {
    if (slots[i].segment() != slots[0].segment() || slots[i].slot() != slots[0].slot() + i)
      return false;
  }
  return true;
}

void FreeAll(SlotAllocator& allocator, const std::vector<CopyRef>& slots) {
  for (const CopyRef slot : slots) allocator.Free(slot);
}

TEST(SlotAllocatorTest, CreateRefusesWhatCannotBeNamedOrDoesNotFit) {
  FakePool pool(MiB(1), 4);
  const auto create = [](FakePool* of, Bytes budget, Bytes quota, PoolId id) {
    return SlotAllocator::Create({.id = id, .pool = of, .budget = budget, .quota = {quota}})
        .status();
  };
  using absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(create(&pool, MiB(4), MiB(4), kPool), IsOk());
  EXPECT_THAT(create(&pool, MiB(1), Bytes(0), kPool), IsOk());
  EXPECT_THAT(create(nullptr, MiB(4), MiB(4), kPool),
              StatusIs(kInvalidArgument, HasSubstr("no pool")));
  EXPECT_THAT(create(&pool, MiB(5), MiB(4), kPool), StatusIs(kInvalidArgument, HasSubstr("5 MiB")));
  EXPECT_THAT(create(&pool, MiB(1) - Bytes(1), MiB(4), kPool),
              StatusIs(kInvalidArgument, HasSubstr("one segment")));
  EXPECT_THAT(create(&pool, MiB(4), Bytes(-1), kPool),
              StatusIs(kInvalidArgument, HasSubstr("tenant 0")));
  EXPECT_THAT(create(&pool, MiB(4), MiB(4), PoolId(15)),
              StatusIs(kInvalidArgument, HasSubstr("15 pools")));
  FakePool many(MiB(1), CopyRef::kSegmentsMax + 1);
  EXPECT_THAT(create(&many, MiB(4), MiB(4), kPool), StatusIs(kInvalidArgument, HasSubstr("16384")));
  FakePool odd(Bytes(5000), 4);
  EXPECT_THAT(create(&odd, Bytes(5000), MiB(4), kPool),
              StatusIs(kInvalidArgument, HasSubstr("4 KiB")));
}

TEST(SlotAllocatorTest, SlotBytesAreRoundedUp) {
  FakePool pool(MiB(64), 4);
  const auto allocator = MakeAllocator(pool);
  EXPECT_EQ(allocator->SlotBytes(Bytes(1)), KiB(4));  // 64 MiB in 16,384 slots
  EXPECT_EQ(allocator->SlotBytes(KiB(4) + Bytes(1)), KiB(4) + Bytes(64));
  EXPECT_EQ(allocator->SlotBytes(KiB(64) - Bytes(1)), KiB(64));
  EXPECT_EQ(allocator->SlotBytes(KiB(64)), KiB(64));
  EXPECT_EQ(allocator->SlotBytes(KiB(64) + Bytes(1)), KiB(68));
  EXPECT_EQ(allocator->slot_bytes_max(), MiB(64));
  FakePool small(KiB(4), 4);
  EXPECT_EQ(MakeAllocator(small)->SlotBytes(Bytes(1)), Bytes(64));
}

TEST(SlotAllocatorTest, BlockLargerThanASegmentIsRefused) {
  FakePool pool(MiB(1), 4);
  const auto allocator = MakeAllocator(pool);
  std::vector<CopyRef> slots;
  EXPECT_FALSE(allocator->Allocate(kAnna, MiB(1) + Bytes(1), 1, slots));
  EXPECT_TRUE(allocator->Allocate(kAnna, MiB(1), 1, slots));
  EXPECT_FALSE(allocator->Allocate(kAnna, KiB(64), size_t{1} << 60, slots));
  EXPECT_EQ(slots.size(), 1u);
}

TEST(SlotAllocatorTest, PlanesOfAChunkLieSideBySide) {
  FakePool pool(MiB(1), 8);
  const auto allocator = MakeAllocator(pool);
  Bytes before(-1);
  for (int chunk = 0; chunk < 16; ++chunk) {
    const std::vector<CopyRef> slots = Allocate(*allocator, kAnna, KiB(4), 32);
    EXPECT_TRUE(SideBySide(slots));
    const Bytes offset = allocator->OffsetOf(slots[0]);
    EXPECT_EQ(allocator->AddressOf(slots[31]),
              allocator->AddressOf(slots[0]) + KiB(4 * 31).count());
    EXPECT_EQ(allocator->SlotBytesOf(slots[0]), KiB(4));
    if (offset != Bytes(0)) {
      EXPECT_EQ(offset, before + KiB(4 * 32));  // chunks follow each other, too
    }
    before = offset;
  }
  EXPECT_EQ(allocator->mean_run_length(), 32);
  EXPECT_EQ(allocator->segments(), 2u);
}

TEST(SlotAllocatorTest, TheShortestRunThatHoldsAllIsTaken) {
  FakePool pool(MiB(1), 1);
  const auto allocator = MakeAllocator(pool);
  const std::vector<CopyRef> all = Allocate(*allocator, kAnna, KiB(4), 256);
  const auto free_run = [&](uint32_t first, uint32_t count) {
    for (uint32_t i = first; i < first + count; ++i) allocator->Free(all[i]);
  };
  free_run(3, 9);
  free_run(20, 5);
  free_run(62, 4);  // across a word of the bitmap
  free_run(100, 7);
  free_run(120, 100);
  const auto next = [&](size_t count) {
    const std::vector<CopyRef> slots = Allocate(*allocator, kAnna, KiB(4), count);
    EXPECT_TRUE(SideBySide(slots)) << count;
    return slots[0].slot();
  };
  EXPECT_EQ(next(4), 62u);
  EXPECT_EQ(next(6), 100u);
  EXPECT_EQ(next(1), 106u);  // what the last one left
  EXPECT_EQ(next(5), 20u);
  EXPECT_EQ(next(9), 3u);
  EXPECT_EQ(next(90), 120u);
  EXPECT_EQ(next(10), 210u);
  allocator->CheckInvariants();
  EXPECT_EQ(allocator->used(), MiB(1));
}

TEST(SlotAllocatorTest, WithoutALongEnoughRunTheLongestOnesAreTaken) {
  FakePool pool(MiB(1), 1);
  const auto allocator = MakeAllocator(pool);
  const std::vector<CopyRef> all = Allocate(*allocator, kAnna, KiB(4), 256);
  for (const uint32_t first : {10u, 50u, 90u}) {
    for (uint32_t i = first; i < first + first / 10; ++i)
      allocator->Free(all[i]);  // 1, 5 and 9 slots
  }
  EXPECT_EQ(allocator->mean_run_length(), 256);
  const std::vector<CopyRef> slots = Allocate(*allocator, kAnna, KiB(4), 13);
  std::vector<uint32_t> numbers;
  numbers.reserve(slots.size());
  for (const CopyRef slot : slots) numbers.push_back(slot.slot());
  EXPECT_THAT(numbers, testing::ElementsAre(90, 91, 92, 93, 94, 95, 96, 97, 98, 50, 51, 52, 53));
  EXPECT_EQ(allocator->mean_run_length(), (256 + 13) / 3.0);
  allocator->CheckInvariants();
}

TEST(SlotAllocatorTest, AmongLongRunsOneIsFoundIfThereIsOne) {
  // 70 and 75 slots are the same class of lengths; only one of the runs holds 73.
  FakePool pool(MiB(1), 2);
  const auto allocator = MakeAllocator(pool);
  const std::vector<CopyRef> all = Allocate(*allocator, kAnna, KiB(4), 512);
  for (uint32_t i = 5; i < 75; ++i) allocator->Free(all[i]);
  for (uint32_t i = 300; i < 375; ++i) allocator->Free(all[i]);
  const std::vector<CopyRef> slots = Allocate(*allocator, kAnna, KiB(4), 73);
  EXPECT_TRUE(SideBySide(slots));
  EXPECT_EQ(slots[0], all[300]);
  EXPECT_FALSE(SideBySide(Allocate(*allocator, kAnna, KiB(4), 71)));
  allocator->CheckInvariants();
}

TEST(SlotAllocatorTest, MeanRunLengthStaysHighUnderChurn) {
  // Chunks of 32 planes in nine tenths of the pool, freed and allocated again at random, with tails
  // of 1 to 31 chunks of one plane between them. The runs handed out stay above 24 slots on the
  // mean of the chunks.
  FakePool pool(MiB(4), 16);
  const auto allocator = MakeAllocator(pool);
  Rng rng(test_support::TestSeed(11));
  std::vector<std::vector<CopyRef>> groups;
  const size_t limit = 16 * 1024 * 9 / 10;
  size_t held = 0;
  uint64_t chunk_slots = 0;
  uint64_t chunk_runs = 0;
  for (int step = 0; step < 20000; ++step) {
    const size_t count = rng.OneIn(4) ? 1 + rng.Below(31) : 32;
    while (held + count > limit) {
      const size_t victim = rng.Below(groups.size());
      FreeAll(*allocator, groups[victim]);
      held -= groups[victim].size();
      std::swap(groups[victim], groups.back());
      groups.pop_back();
    }
    groups.push_back(Allocate(*allocator, kAnna, KiB(4), count));
    held += count;
    if (count < 32) continue;
    const std::vector<CopyRef>& slots = groups.back();
    chunk_slots += count;
    for (size_t i = 0; i < count; ++i) {
      if (i == 0 || slots[i].segment() != slots[i - 1].segment() ||
          slots[i].slot() != slots[i - 1].slot() + 1) {
        ++chunk_runs;
      }
    }
  }
  allocator->CheckInvariants();
  const double mean = static_cast<double>(chunk_slots) / static_cast<double>(chunk_runs);
  RecordProperty("mean_run_length_of_chunks", std::to_string(mean));
  EXPECT_GT(mean, 24) << "of chunks; of all: " << allocator->mean_run_length();
  EXPECT_GT(allocator->mean_run_length(), 16);
}

TEST(SlotAllocatorTest, AnEmptiedSegmentTakesAnotherSizeAndAnotherTenant) {
  FakePool pool(MiB(1), 1);
  const auto allocator = MakeAllocator(pool);
  const std::vector<CopyRef> first = Allocate(*allocator, kAnna, KiB(4), 3);
  std::vector<CopyRef> slots;
  EXPECT_FALSE(allocator->Allocate(kAnna, KiB(8), 1, slots));
  EXPECT_FALSE(allocator->Allocate(kBert, KiB(4), 1, slots));
  EXPECT_EQ(allocator->held(kAnna), MiB(1));
  FreeAll(*allocator, first);
  EXPECT_EQ(allocator->held(kAnna), Bytes(0));
  EXPECT_EQ(allocator->held(), Bytes(0));
  EXPECT_EQ(allocator->segments(), 1u);
  const std::vector<CopyRef> second = Allocate(*allocator, kAnna, KiB(8), 128);
  allocator->CheckInvariants();
  FreeAll(*allocator, second);
  EXPECT_EQ(pool.add_calls, 1u);
  Allocate(*allocator, kBert, KiB(64), 16);
  allocator->CheckInvariants();
  EXPECT_EQ(allocator->held(kBert), MiB(1));
  EXPECT_EQ(allocator->used(kBert), MiB(1));
  EXPECT_EQ(allocator->used(kAnna), Bytes(0));
  EXPECT_EQ(pool.add_calls, 2u) << "what Anna left there has to go: the pool zeroes it";
}

TEST(SlotAllocatorTest, OthersEmptySegmentsGoFirstWhereTheMachineHasNoMore) {
  FakePool pool(MiB(1), 8);
  const auto allocator = MakeAllocator(pool);
  FreeAll(*allocator, Allocate(*allocator, kAnna, KiB(4), 2 * 256));
  EXPECT_EQ(allocator->segments(), 2u);
  // Room in the budget, but not in the machine until one is given back.
  pool.segments_that_fit = 2;
  Allocate(*allocator, kBert, KiB(4), 2 * 256);
  EXPECT_EQ(allocator->held(kBert), MiB(2));
  EXPECT_EQ(allocator->segments(), 2u);
  std::vector<CopyRef> slots;
  EXPECT_FALSE(allocator->Allocate(kAnna, KiB(4), 1, slots));
  allocator->CheckInvariants();
}

TEST(SlotAllocatorTest, QuotaCountsWholeSegmentsOfATenant) {
  FakePool pool(MiB(1), 8);
  const auto allocator = MakeAllocator(pool, MiB(8), {MiB(2) + KiB(512), Bytes(0)});
  std::vector<CopyRef> slots;
  EXPECT_FALSE(allocator->Allocate(kBert, KiB(4), 1, slots));
  EXPECT_FALSE(allocator->Allocate(kAnna, KiB(4), 513, slots));
  EXPECT_EQ(pool.add_calls, 0u);
  EXPECT_TRUE(allocator->Allocate(kAnna, KiB(4), 257, slots));
  EXPECT_EQ(allocator->held(kAnna), MiB(2));
  EXPECT_FALSE(allocator->Allocate(kAnna, KiB(8), 1, slots));
  EXPECT_TRUE(allocator->Allocate(kAnna, KiB(4), 255, slots));
  EXPECT_FALSE(allocator->Allocate(kAnna, KiB(4), 1, slots));
  EXPECT_EQ(slots.size(), 512u);
  EXPECT_EQ(allocator->quota(kAnna), MiB(2) + KiB(512));
  allocator->CheckInvariants();
}

TEST(SlotAllocatorTest, AllOrNothingAtTheBudget) {
  FakePool pool(MiB(1), 8);
  const auto allocator = MakeAllocator(pool, MiB(3), {MiB(8), MiB(8)});
  std::vector<CopyRef> slots = Allocate(*allocator, kAnna, KiB(4), 100);
  const Bytes used = allocator->used();
  EXPECT_FALSE(allocator->Allocate(kAnna, KiB(4), 3 * 256 - 100 + 1, slots));
  EXPECT_EQ(slots.size(), 100u);
  EXPECT_EQ(allocator->used(), used);
  EXPECT_EQ(allocator->segments(), 1u);
  EXPECT_TRUE(allocator->Allocate(kAnna, KiB(4), 3 * 256 - 100, slots));
  EXPECT_EQ(allocator->used(), MiB(3));
  allocator->CheckInvariants();
}

TEST(SlotAllocatorTest, APoolThatRefusesLeavesAllUnchanged) {
  FakePool pool(MiB(1), 8);
  const auto allocator = MakeAllocator(pool);
  std::vector<CopyRef> slots = Allocate(*allocator, kAnna, KiB(4), 10);
  for (uint64_t adds = 0; adds < 3; ++adds) {
    pool.adds_before_failure = adds;
    EXPECT_FALSE(allocator->Allocate(kAnna, KiB(4), 3 * 256 + 200, slots)) << adds;
    EXPECT_FALSE(allocator->Allocate(kBert, KiB(4), 3 * 256 + 200, slots)) << adds;
    EXPECT_EQ(slots.size(), 10u);
    EXPECT_EQ(pool.segments.size(), 1u);
    EXPECT_EQ(allocator->segments(), 1u);
    EXPECT_EQ(allocator->held(), MiB(1));
    EXPECT_EQ(allocator->used(), KiB(40));
    EXPECT_EQ(allocator->held(kBert), Bytes(0));
    allocator->CheckInvariants();
  }
  pool.adds_before_failure = 3;
  EXPECT_TRUE(allocator->Allocate(kAnna, KiB(4), 3 * 256 + 200, slots));
  allocator->CheckInvariants();
}

TEST(SlotAllocatorTest, ALoweredBudgetTakesSegmentsAsTheyEmpty) {
  FakePool pool(MiB(1), 8);
  const auto allocator = MakeAllocator(pool, MiB(6), {MiB(8), MiB(8)});
  std::vector<std::vector<CopyRef>> segments;
  segments.reserve(5);
  for (int i = 0; i < 5; ++i) segments.push_back(Allocate(*allocator, kAnna, KiB(4), 256));
  FreeAll(*allocator, segments[0]);
  EXPECT_EQ(pool.segments.size(), 5u);
  EXPECT_THAT(allocator->SetBudget(MiB(9)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("9437184")));
  EXPECT_THAT(allocator->SetBudget(Bytes(-1)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("-1")));
  EXPECT_EQ(allocator->budget(), MiB(6));
  EXPECT_THAT(allocator->SetBudget(MiB(2) + KiB(1)), IsOk());
  EXPECT_EQ(pool.segments.size(), 4u);  // the empty one is gone
  EXPECT_EQ(allocator->excess(), MiB(2) - KiB(1));
  FreeAll(*allocator, segments[1]);
  FreeAll(*allocator, segments[2]);
  EXPECT_EQ(pool.segments.size(), 2u);
  EXPECT_EQ(allocator->excess(), Bytes(0));
  std::vector<CopyRef> slots;
  EXPECT_FALSE(allocator->Allocate(kAnna, KiB(4), 1, slots));
  FreeAll(*allocator, segments[3]);
  EXPECT_EQ(pool.segments.size(), 2u);  // within the budget: kept for the next one
  EXPECT_EQ(allocator->held(), MiB(1));
  EXPECT_TRUE(allocator->Allocate(kBert, KiB(8), 1, slots));
  EXPECT_THAT(allocator->SetBudget(MiB(8)), IsOk());
  EXPECT_TRUE(allocator->Allocate(kBert, KiB(4), 6 * 256, slots));
  EXPECT_EQ(pool.segments.size(), 8u);
  allocator->CheckInvariants();
}

TEST(SlotAllocatorTest, ItsEndGivesEverySegmentBack) {
  FakePool pool(MiB(1), 8);
  auto allocator = MakeAllocator(pool);
  FreeAll(*allocator, Allocate(*allocator, kAnna, KiB(4), 300));
  Allocate(*allocator, kBert, KiB(4), 300);
  EXPECT_EQ(pool.segments.size(), 4u);
  allocator.reset();
  EXPECT_TRUE(pool.segments.empty());
}

TEST(SlotAllocatorTest, OwnersAreForgottenWithTheirSlots) {
  FakePool pool(MiB(1), 1);
  const auto allocator = MakeAllocator(pool);
  const std::vector<CopyRef> slots = Allocate(*allocator, kAnna, KiB(4), 2);
  EXPECT_EQ(allocator->owner(slots[0]), kNoRow);
  allocator->SetOwner(slots[0], 7);
  allocator->SetOwner(slots[1], 8);
  EXPECT_EQ(allocator->owner(slots[0]), 7u);
  allocator->Free(slots[0]);
  EXPECT_EQ(allocator->owner(slots[0]), kNoRow);
  EXPECT_EQ(allocator->owner(slots[1]), 8u);
  const std::vector<CopyRef> again = Allocate(*allocator, kAnna, KiB(4), 1);
  EXPECT_EQ(again[0], slots[0]);
  EXPECT_EQ(allocator->owner(again[0]), kNoRow);
}

TEST(SlotAllocatorTest, TheEmptiestSegmentOfAnotherSizeIsNamed) {
  FakePool pool(MiB(1), 8);
  const auto allocator = MakeAllocator(pool);
  EXPECT_EQ(allocator->EmptiestSegment(kAnna, Bytes(0)), std::nullopt);
  const std::vector<CopyRef> small = Allocate(*allocator, kAnna, KiB(4), 256 + 90);
  const std::vector<CopyRef> large = Allocate(*allocator, kAnna, KiB(64), 5);
  Allocate(*allocator, kBert, KiB(4), 1);
  EXPECT_EQ(allocator->EmptiestSegment(kAnna, Bytes(0)), large[0].segment());
  EXPECT_EQ(allocator->EmptiestSegment(kAnna, KiB(4)), large[0].segment());
  const SegmentIndex part = small.back().segment();
  EXPECT_EQ(allocator->EmptiestSegment(kAnna, KiB(64) - Bytes(1)), part);
  EXPECT_EQ(allocator->EmptiestSegment(kBert, KiB(4)), std::nullopt);
  std::set<uint32_t> visited;
  allocator->ForEachUsed(part, [&](CopyRef slot) {
    EXPECT_EQ(slot.segment(), part);
    visited.insert(slot.slot());
  });
  std::set<uint32_t> expected;
  for (const CopyRef slot : small) {
    if (slot.segment() == part) expected.insert(slot.slot());
  }
  EXPECT_EQ(visited, expected);
  allocator->ForEachUsed(SegmentIndex(7), [](CopyRef) { FAIL() << "no such segment"; });
}

TEST(SlotAllocatorDeathTest, FreeingTwiceAborts) {
  FakePool pool(MiB(1), 1);
  const auto allocator = MakeAllocator(pool);
  const std::vector<CopyRef> slots = Allocate(*allocator, kAnna, KiB(4), 2);
  allocator->Free(slots[0]);
  EXPECT_DEATH(allocator->Free(slots[0]), "check failed");
  EXPECT_DEATH(allocator->Free(CopyRef()), "check failed");
}

}  // namespace
}  // namespace kvtier
