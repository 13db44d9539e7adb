// What the engine makes of its clients' pages: the oldest open section, sections that are open for
// too long, and pages full of nonsense.
#include "tiering/share/reader_sections.h"

#include <atomic>
#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/client_page.h"
#include "proto/wire/section_protocol.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier {
namespace {

constexpr ShmClientId kFirst{1}, kSecond{2};
constexpr absl::Duration kLimit = absl::Seconds(10);

class ReaderSectionsTest : public ::testing::Test {
 protected:
  ReaderSectionsTest() {
    sections_.Add(kFirst, first_.get());
    sections_.Add(kSecond, second_.get());
  }
  // Observes as the engine does, and gives a new epoch where one is wanted.
  void ObserveAt(absl::Duration time) {
    if (sections_.Observe(absl::UnixEpoch() + time, kLimit, epoch_)) ++epoch_;
  }
  // As a client that enters when the epoch is such. Zero: it leaves.
  static void Store(wire::ClientPage& page, size_t place, uint64_t epoch) {
    wire::EnterSection(std::atomic<uint64_t>(epoch), page, place);
  }

  std::unique_ptr<wire::ClientPage> first_ = std::make_unique<wire::ClientPage>();
  std::unique_ptr<wire::ClientPage> second_ = std::make_unique<wire::ClientPage>();
  ReaderSections sections_;
  uint64_t epoch_ = 50;
};

TEST_F(ReaderSectionsTest, TheOldestOfAllClientsCounts) {
  EXPECT_EQ(sections_.Oldest(), wire::kNoSection);
  Store(*first_, 255, 12);
  Store(*second_, 0, 11);
  EXPECT_EQ(sections_.Oldest(), 11u);
  sections_.Remove(kSecond);
  EXPECT_EQ(sections_.Oldest(), 12u);
  first_->sections[255].end.store(wire::SectionEnd::Pack(255, 4));
  first_->timeline[255].store(3);
  EXPECT_EQ(sections_.Oldest(), 12u);
  first_->timeline[255].store(4);
  EXPECT_EQ(sections_.Oldest(), wire::kNoSection);
}

TEST_F(ReaderSectionsTest, OnlyMarkedPlacesAreLookedAt) {
  first_->sections[3].section.store(7);
  EXPECT_EQ(sections_.Oldest(), wire::kNoSection) << "its place is not marked";
  ObserveAt(absl::Seconds(0));
  EXPECT_EQ(sections_.statuses()[0].open, 0u);
  for (const size_t place : {0, 63, 64, 127, 128, 191, 192, 255}) {
    Store(*second_, place, 50 - place % 10);
    EXPECT_EQ(sections_.Oldest(), 50 - place % 10) << place;
    Store(*second_, place, 0);
  }
  EXPECT_EQ(sections_.Oldest(), wire::kNoSection);
  EXPECT_EQ(sections_.scans(), 10u);
}

TEST_F(ReaderSectionsTest, ASectionThatStaysOpenIsOverTheLimitUntilItIsLeft) {
  Store(*first_, 3, epoch_);
  Store(*second_, 9, epoch_);
  for (int second = 0; second <= 10; ++second) {
    ObserveAt(absl::Seconds(second));
    EXPECT_FALSE(sections_.statuses()[0].over_limit) << second;
    Store(*second_, 9, epoch_);  // it leaves and comes back all the time
  }
  ObserveAt(absl::Seconds(10.5));
  EXPECT_TRUE(sections_.statuses()[0].over_limit);
  EXPECT_FALSE(sections_.statuses()[1].over_limit);
  EXPECT_EQ(sections_.statuses()[0].open, 1u);
  EXPECT_EQ(sections_.statuses()[0].longest, absl::Seconds(10.5));
  Store(*first_, 3, 0);
  ObserveAt(absl::Seconds(11));
  EXPECT_FALSE(sections_.statuses()[0].over_limit);
  EXPECT_EQ(sections_.statuses()[0].open, 0u);
}

TEST_F(ReaderSectionsTest, AnOlderEpochInTheWordIsTheSameSection) {
  for (int second = 0; second <= 11; ++second) {
    Store(*first_, 3, epoch_ - static_cast<uint64_t>(second));
    ObserveAt(absl::Seconds(second));
    EXPECT_EQ(sections_.statuses()[0].over_limit, second == 11) << second;
  }
}

TEST_F(ReaderSectionsTest, ANewEpochIsWantedOnlyForSectionsThatGetOld) {
  ObserveAt(absl::Seconds(0));
  ObserveAt(absl::Seconds(100));
  EXPECT_EQ(epoch_, 50u);
  Store(*first_, 3, epoch_);
  ObserveAt(absl::Seconds(101));
  ObserveAt(absl::Seconds(102));
  EXPECT_EQ(epoch_, 50u);
  for (int second = 103; second < 200; ++second) ObserveAt(absl::Seconds(second));
  EXPECT_EQ(epoch_, 51u);
}

TEST_F(ReaderSectionsTest, NonsenseKeepsNothingThatOthersOpenLater) {
  Rng rng(test_support::TestSeed(1));
  for (int round = 0; round < 200; ++round) {
    for (auto& slot : first_->sections) {
      slot.section.store(rng.OneIn(3) ? 0 : rng.Next());
      slot.end.store(rng.Next());
    }
    for (auto& word : first_->timeline) word.store(rng.Next());
    for (auto& word : first_->used) word.store(rng.Next() | rng.Next());
    (void)sections_.Oldest();
    ObserveAt(absl::Milliseconds(round));
    EXPECT_LE(sections_.statuses()[0].open, wire::kSectionsMax);
  }
  sections_.Remove(kFirst);
  EXPECT_EQ(sections_.Oldest(), wire::kNoSection);
}

}  // namespace
}  // namespace kvtier
