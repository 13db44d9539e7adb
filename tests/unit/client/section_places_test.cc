// Proves that sections announce themselves to the daemon and end, by hand and by a timeline word;
// that what is retired goes when the sections that were open then are over, and not before; and
// that memory of another layout, or of another daemon, is refused by name.
#include "client/section_places.h"

#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <memory>
#include <thread>
#include <vector>

#include "proto/wire/section_protocol.h"
#include "tests/unit/client/fake_memory.h"

namespace kvtier::testing {
namespace {

using Outcome = SectionPlaces::Outcome;

// True while it is there.
std::shared_ptr<const void> Watched(std::weak_ptr<const int>& watch) {
  auto thing = std::make_shared<const int>(1);
  watch = thing;
  return thing;
}

class SectionPlacesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto memory = fake_.Attach(places_);
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *memory;
    places_.Publish(memory_);
  }
  uint64_t Announced(const SectionPlace& place) const {
    return fake_.page()
        .sections[static_cast<size_t>(place.slot - memory_->page().sections.data())]
        .section.load();
  }

  FakeMemory fake_;
  SectionPlaces places_;
  std::shared_ptr<TenantMemory> memory_;
};

TEST_F(SectionPlacesTest, AnnouncesTheEpochAndLeaves) {
  const auto [first, entered] = places_.Enter();
  ASSERT_EQ(entered, Outcome::kEntered);
  EXPECT_EQ(Announced(*first), wire::kFirstEpoch);
  fake_.share().retire_epoch().store(9);
  const auto [second, entered_too] = places_.Enter();
  ASSERT_EQ(entered_too, Outcome::kEntered);
  EXPECT_EQ(Announced(*second), 9u);
  EXPECT_EQ(Announced(*first), wire::kFirstEpoch);
  places_.Leave(*first);
  EXPECT_EQ(Announced(*first), 0u);
  places_.Leave(*second);
  EXPECT_FALSE(places_.AnyOpen());
}

TEST_F(SectionPlacesTest, MarksThePlacesThatWereTakenInEachPage) {
  const auto marked = [](const FakeMemory& fake) {
    int bits = 0;
    for (const auto& word : fake.page().used) bits += std::popcount(word.load());
    return bits;
  };
  for (int round = 0; round < 300; ++round) {
    SectionPlace* const first = places_.Enter().first;
    SectionPlace* const second = places_.Enter().first;
    places_.Leave(*first);
    places_.Leave(*second);
  }
  EXPECT_EQ(marked(fake_), 2);
  FakeMemory after_restart;
  auto memory = after_restart.Attach(places_);
  ASSERT_TRUE(memory.ok()) << memory.status();
  places_.Publish(*memory);
  SectionPlace* const place = places_.Enter().first;
  const auto number = static_cast<size_t>(place->slot - (*memory)->page().sections.data());
  EXPECT_EQ(after_restart.page().used[number / 64].load(), uint64_t{1} << number % 64);
  EXPECT_EQ(marked(after_restart), 1);
  places_.Leave(*place);
  places_.Publish(nullptr);
}

TEST_F(SectionPlacesTest, EndsWithATimelineWord) {
  const SectionPlace* const place = places_.Enter().first;
  places_.LeaveAt(*const_cast<SectionPlace*>(place), 3, 10);
  EXPECT_NE(Announced(*place), 0u);
  fake_.page().timeline[3].store(9);
  EXPECT_TRUE(places_.AnyOpen());
  fake_.page().timeline[3].store(11);
  EXPECT_FALSE(places_.AnyOpen());
  EXPECT_EQ(Announced(*place), 0u);
  // The next section of that place does not end by the old word.
  const SectionPlace* again = nullptr;
  std::vector<SectionPlace*> others;
  while (again != place) {
    others.push_back(places_.Enter().first);
    ASSERT_NE(others.back(), nullptr);
    again = others.back();
  }
  EXPECT_EQ(again->slot->end.load(), 0u);
  for (SectionPlace* const other : others) places_.Leave(*other);
}

TEST_F(SectionPlacesTest, RetiredThingsWaitForWhoCouldUseThem) {
  SectionPlace* const before = places_.Enter().first;
  std::weak_ptr<const int> first, second;
  places_.Retire(Watched(first));
  SectionPlace* const after = places_.Enter().first;
  places_.Retire(Watched(second));
  EXPECT_FALSE(first.expired());
  places_.Leave(*before);
  EXPECT_TRUE(first.expired());
  EXPECT_FALSE(second.expired());
  // The same place, used again by a section that is later than both.
  SectionPlace* const later = places_.Enter().first;
  places_.Leave(*after);
  EXPECT_TRUE(second.expired());
  EXPECT_EQ(places_.retired(), 0u);
  places_.Leave(*later);
}

TEST_F(SectionPlacesTest, MemoryOfALostDaemonStaysForOpenSections) {
  SectionPlace* const place = places_.Enter().first;
  memory_->MarkLost();
  EXPECT_EQ(places_.Enter().second, Outcome::kNoMemory);
  std::weak_ptr<TenantMemory> watch = memory_;
  memory_ = nullptr;
  places_.Publish(nullptr);
  EXPECT_EQ(places_.Enter().second, Outcome::kNoMemory);
  ASSERT_FALSE(watch.expired());
  EXPECT_EQ(place->memory->index().header().daemon_epoch, FakeMemory::kEpoch);
  places_.Leave(*place);
  EXPECT_TRUE(watch.expired());
}

// Sections of several threads look at a thing that another one replaces and retires all the time.
TEST_F(SectionPlacesTest, ThreadsNeverSeeWhatIsGone) {
  struct Thing {
    ~Thing() { alive.store(0); }
    std::atomic<uint64_t> alive{0x600dull};
  };
  std::atomic<Thing*> current{nullptr};
  std::shared_ptr<Thing> owner;
  const auto replace = [&] {
    auto thing = std::make_shared<Thing>();
    current.store(thing.get(), std::memory_order_seq_cst);
    if (owner != nullptr) places_.Retire(std::move(owner));
    owner = std::move(thing);
  };
  replace();
  std::atomic<bool> done{false};
  std::atomic<uint64_t> bad{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      while (!done.load(std::memory_order_relaxed)) {
        SectionPlace* const place = places_.Enter().first;
        const Thing* const thing = current.load(std::memory_order_acquire);
        for (int look = 0; look < 4; ++look) bad += thing->alive.load() != 0x600dull ? 1 : 0;
        places_.Leave(*place);
      }
    });
  }
  for (int i = 0; i < 20'000; ++i) replace();
  done = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(bad.load(), 0u);
  // Two that left at the same time may each have left the sweep to the other; the next one does it.
  places_.Leave(*places_.Enter().first);
  EXPECT_EQ(places_.retired(), 0u);
}

TEST(TenantMemoryTest, RefusesAnotherLayoutByName) {
  FakeMemory fake;
  SectionPlaces places;
  reinterpret_cast<wire::IndexHeader*>(fake.index_bytes())->major = 9;
  const absl::Status status = fake.Attach(places).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("layout 9.0; this client reads 1.x"), std::string::npos)
      << status;
}

TEST(TenantMemoryTest, RefusesAnotherDaemonsMemory) {
  FakeMemory fake;
  SectionPlaces places;
  reinterpret_cast<wire::IndexHeader*>(fake.index_bytes())->daemon_epoch = 5;
  EXPECT_EQ(fake.Attach(places).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(TenantMemoryTest, WaitsForAnAnswerNoLongerThanItSays) {
  FakeMemory fake;
  SectionPlaces places;
  fake.set_silent(true);
  EXPECT_EQ(fake.Attach(places).status().code(), absl::StatusCode::kUnavailable);
}

TEST(TenantMemoryTest, RefusesWhatIsNoMessage) {
  FakeMemory fake;
  SectionPlaces places;
  fake.set_garbled(true);
  const absl::Status status = fake.Attach(places).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(status.message().find("2 bytes"), std::string::npos) << status;
}

}  // namespace
}  // namespace kvtier::testing
