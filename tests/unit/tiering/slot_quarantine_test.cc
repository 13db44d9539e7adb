// A retired slot comes free exactly when no section that was open at its retirement is open any
// more: shown for every sequence of up to nine operations (eight where it is instrumented), against
// that sentence taken literally.
#include "tiering/memory/slot_quarantine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "tests/support/sanitized.h"

namespace kvtier {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

CopyRef Slot(uint32_t slot, uint8_t pool = 0) {
  return CopyRef(PoolId(pool), SegmentIndex(3), slot);
}

std::vector<CopyRef> TakeFree(SlotQuarantine& quarantine) {
  std::vector<CopyRef> slots;
  quarantine.TakeFree(slots);
  return slots;
}

TEST(SlotQuarantineTest, WithoutASectionASlotIsFreeAtOnce) {
  SlotQuarantine quarantine(1);
  quarantine.Retire(Slot(1), KiB(4));
  EXPECT_THAT(TakeFree(quarantine), ElementsAre(Slot(1)));
  EXPECT_THAT(TakeFree(quarantine), IsEmpty());
}

TEST(SlotQuarantineTest, OnlySectionsOpenAtTheRetirementHoldASlot) {
  SlotQuarantine quarantine(1);
  const SectionId early = quarantine.Enter();
  quarantine.Retire(Slot(1), KiB(4));
  const SectionId late = quarantine.Enter();
  quarantine.Retire(Slot(2), KiB(4));
  EXPECT_THAT(TakeFree(quarantine), IsEmpty());
  EXPECT_TRUE(quarantine.Exit(early));
  EXPECT_THAT(TakeFree(quarantine), ElementsAre(Slot(1)));
  EXPECT_TRUE(quarantine.Exit(late));
  EXPECT_THAT(TakeFree(quarantine), ElementsAre(Slot(2)));
}

TEST(SlotQuarantineTest, SectionsEndOnce) {
  SlotQuarantine quarantine(1);
  EXPECT_FALSE(quarantine.Exit(SectionId(0)));
  const SectionId section = quarantine.Enter();
  EXPECT_NE(section, SectionId(0));
  EXPECT_FALSE(quarantine.Exit(SectionId(0)));
  EXPECT_FALSE(quarantine.Exit(SectionId(section.value() + 1)));
  EXPECT_FALSE(quarantine.Exit(SectionId(~uint64_t{0})));
  EXPECT_EQ(quarantine.open_sections(), 1u);
  EXPECT_TRUE(quarantine.Exit(section));
  EXPECT_FALSE(quarantine.Exit(section));
  const SectionId next = quarantine.Enter();
  EXPECT_NE(next, section);
  EXPECT_FALSE(quarantine.Exit(section));
  EXPECT_EQ(quarantine.open_sections(), 1u);
}

TEST(SlotQuarantineTest, RetiredBytesAreCountedByPool) {
  SlotQuarantine quarantine(2);
  const SectionId section = quarantine.Enter();
  quarantine.Retire(Slot(1, 0), KiB(4));
  quarantine.Retire(Slot(2, 1), KiB(64));
  quarantine.Retire(Slot(3, 0), KiB(8));
  EXPECT_EQ(quarantine.retired(PoolId(0)), KiB(12));
  EXPECT_EQ(quarantine.retired(PoolId(1)), KiB(64));
  quarantine.Exit(section);
  EXPECT_EQ(quarantine.retired(PoolId(0)), KiB(12));  // until they are taken
  EXPECT_THAT(TakeFree(quarantine), ElementsAre(Slot(1, 0), Slot(2, 1), Slot(3, 0)));
  EXPECT_EQ(quarantine.retired(PoolId(0)), Bytes(0));
  EXPECT_EQ(quarantine.retired(PoolId(1)), Bytes(0));
}

TEST(SlotQuarantineTest, ALongSectionDoesNotMakeTheBookkeepingGrow) {
  SlotQuarantine quarantine(1);
  const SectionId held = quarantine.Enter();
  quarantine.Exit(quarantine.Enter());
  const Bytes before = quarantine.metadata_bytes();
  for (int i = 0; i < 100000; ++i) ASSERT_TRUE(quarantine.Exit(quarantine.Enter()));
  EXPECT_EQ(quarantine.metadata_bytes(), before);
  EXPECT_TRUE(quarantine.Exit(held));
}

// One sequence of operations on the quarantine and on the definition side by side. Operation 0
// enters, 1 retires, 2 takes, 3 + i ends the open section i.
class Sequence {
 public:
  // False when an operation is not possible where it stands.
  bool Run(const std::vector<int>& operations) {
    for (const int operation : operations) {
      if (operation >= 3 && static_cast<size_t>(operation - 3) >= open_.size()) return false;
      Apply(operation);
    }
    return true;
  }
  size_t open() const { return open_.size(); }

 private:
  struct Retired {
    uint32_t slot;
    std::set<SectionId> open;  // when it was retired
  };

  void Apply(int operation) {
    if (operation == 0) {
      open_.push_back(quarantine_.Enter());
    } else if (operation == 1) {
      quarantine_.Retire(Slot(next_slot_), KiB(4));
      retired_.push_back({next_slot_++, std::set<SectionId>(open_.begin(), open_.end())});
    } else if (operation == 2) {
      ASSERT_EQ(TakeFree(quarantine_), ExpectedFree());
    } else {
      ASSERT_TRUE(quarantine_.Exit(open_[operation - 3]));
      open_.erase(open_.begin() + operation - 3);
    }
    ASSERT_EQ(quarantine_.open_sections(), open_.size());
    ASSERT_EQ(quarantine_.retired(PoolId(0)), KiB(4 * static_cast<int64_t>(retired_.size())));
  }

  std::vector<CopyRef> ExpectedFree() {
    std::vector<CopyRef> slots;
    std::vector<Retired> kept;
    for (const Retired& retired : retired_) {
      const bool held = std::any_of(open_.begin(), open_.end(), [&](SectionId section) {
        return retired.open.count(section) != 0;
      });
      if (held) {
        kept.push_back(retired);
      } else {
        slots.push_back(Slot(retired.slot));
      }
    }
    retired_ = kept;
    return slots;
  }

  SlotQuarantine quarantine_{1};
  std::vector<SectionId> open_;
  std::vector<Retired> retired_;
  uint32_t next_slot_ = 0;
};

// Every sequence that begins with `operations` and is `length` long; returns how many there were.
uint64_t RunAll(std::vector<int>& operations, size_t length) {
  Sequence sequence;
  if (!sequence.Run(operations) || testing::Test::HasFatalFailure()) return 0;
  if (operations.size() == length) return 1;
  uint64_t count = 0;
  for (int next = 0; next < 3 + static_cast<int>(sequence.open()); ++next) {
    operations.push_back(next);
    count += RunAll(operations, length);
    if (testing::Test::HasFatalFailure()) return count;
    operations.pop_back();
  }
  return count;
}

TEST(SlotQuarantineTest, EveryShortSequenceOfOperationsAgreesWithTheDefinition) {
  std::vector<int> operations;
  const uint64_t count = RunAll(operations, test_support::kSanitized ? 8 : 9);
  std::string last;
  for (const int operation : operations) last += std::to_string(operation) + " ";
  EXPECT_FALSE(HasFatalFailure()) << "operations " << last;
  EXPECT_GT(count, test_support::kSanitized ? 20'000u : 200'000u);
}

}  // namespace
}  // namespace kvtier
