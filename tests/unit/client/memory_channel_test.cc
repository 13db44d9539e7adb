// Proves what becomes of memory that is mapped when the socket it came through breaks, and when its
// user ends: a request that is not answered is the last one to wait, another socket is opened for
// the same client, an inbox whose seal nobody confirmed is mapped once, and the daemon is told
// goodbye when nothing is mapped any more and not before.
#include "client/memory_channel.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "client/tenant_memory.h"
#include "tests/unit/client/fake_memory.h"

namespace kvtier::testing {
namespace {

using wire::ResidencyWord;
using wire::SegmentAccess;

constexpr uint64_t kSlotBytes = 8192;

ResidencyWord Word(uint32_t segment) { return ResidencyWord(segment << 14, 1); }

class MemoryChannelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto memory = fake_.Attach(places_);
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
    places_.Publish(memory_);
  }
  absl::Status Map(uint32_t segment, SegmentAccess access = SegmentAccess::kRead) {
    SegmentMap& segments = memory_->segments();
    return access == SegmentAccess::kWrite ? segments.GetWritable(Word(segment)).status()
                                           : segments.Get(Word(segment)).status();
  }
  // The fake is another thread; it takes what was said before it lets somebody else in.
  int GoodbyesSaid() {
    auto memory = fake_.Attach(places_of_another_);
    EXPECT_TRUE(memory.ok()) << memory.status();
    if (memory.ok()) another_ = *std::move(memory);
    return fake_.goodbyes();
  }
  bool AwaitGoodbyes(int count) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (fake_.goodbyes() < count && absl::Now() < deadline) std::this_thread::yield();
    return fake_.goodbyes() == count;
  }

  FakeMemory fake_;
  SectionPlaces places_;
  std::shared_ptr<TenantMemory> memory_;
  SectionPlaces places_of_another_;
  std::shared_ptr<TenantMemory> another_;  // to the end: it says goodbye itself
};

TEST_F(MemoryChannelTest, ABrokenSocketIsReplacedAndWhatIsMappedStays) {
  for (uint32_t i = 0; i < 3; ++i) fake_.AddSegment(Word(i), kSlotBytes);
  ASSERT_TRUE(Map(0).ok());
  const MappedSegment* const before = memory_->segments().Find(Word(0));
  fake_.set_silent(true);
  EXPECT_TRUE(absl::IsUnavailable(Map(1)));
  const int requests = fake_.requests();
  // Nobody waits for it again, and the daemon is not asked.
  fake_.set_silent(false);
  const absl::Time begin = absl::Now();
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(absl::IsUnavailable(Map(1)));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(20)) << "500 ms each, if they waited";
  EXPECT_EQ(fake_.requests(), requests);
  memory_->Keep();
  EXPECT_EQ(fake_.resumes(), 1);
  EXPECT_TRUE(Map(1).ok());
  EXPECT_EQ(memory_->segments().Find(Word(0)), before);
  // A daemon that does not answer is asked for it ever more rarely.
  fake_.set_silent(true);
  EXPECT_TRUE(absl::IsUnavailable(Map(2)));
  for (int i = 0; i < 1000; ++i) memory_->Keep();
  EXPECT_EQ(fake_.resumes(), 1);
}

TEST_F(MemoryChannelTest, AnInboxWhoseSealIsNotConfirmedIsMappedOnce) {
  fake_.AddSegment(Word(0), kSlotBytes);
  fake_.AddSegment(Word(1), kSlotBytes);
  fake_.swallow_mapped();
  EXPECT_TRUE(absl::IsUnavailable(Map(0, SegmentAccess::kWrite)));
  EXPECT_EQ(memory_->segments().Find(Word(0)), nullptr);
  memory_->Keep();
  const int requests = fake_.requests();
  ASSERT_TRUE(Map(0, SegmentAccess::kWrite).ok());
  ASSERT_NE(memory_->segments().Find(Word(0)), nullptr);
  EXPECT_TRUE(memory_->segments().Find(Word(0))->writable);
  EXPECT_EQ(fake_.requests(), requests) << "it was given already";
  EXPECT_TRUE(Map(1).ok());
}

TEST_F(MemoryChannelTest, AnIdleClientUnmapsWhatIsOverByTurn) {
  for (uint32_t i = 0; i < 6; ++i) {
    fake_.AddSegment(Word(i), kSlotBytes);
    ASSERT_TRUE(Map(i).ok());
  }
  SegmentMap& segments = memory_->segments();
  const auto ask = [&](size_t count) { segments.UnmapOver(count, absl::Seconds(20)); };
  int requests = fake_.requests();
  ask(100);
  EXPECT_EQ(fake_.requests(), requests + 6) << "each once";
  EXPECT_EQ(segments.mapped(), 6u);
  for (const uint32_t i : {1, 2, 4}) fake_.RemoveSegment(Word(i));
  SectionPlace* const open = places_.Enter().first;
  requests = fake_.requests();
  for (int i = 0; i < 6; ++i) ask(2);
  EXPECT_LE(fake_.requests(), requests + 12);
  EXPECT_EQ(segments.mapped(), 3u);
  EXPECT_EQ(segments.unmaps(), 3u);
  for (const uint32_t i : {1, 2, 4}) EXPECT_EQ(segments.Find(Word(i)), nullptr) << i;
  for (const uint32_t i : {0, 3, 5}) EXPECT_NE(segments.Find(Word(i)), nullptr) << i;
  EXPECT_EQ(places_.retired(), 3u) << "a section may use them";
  places_.Leave(*open);
  EXPECT_EQ(places_.retired(), 0u);
  for (const uint32_t i : {0, 3, 5}) fake_.RemoveSegment(Word(i));
  for (int i = 0; i < 4; ++i) ask(2);
  EXPECT_EQ(segments.mapped(), 0u);
  requests = fake_.requests();
  ask(2);
  EXPECT_EQ(fake_.requests(), requests) << "there is nothing to ask about";
}

TEST_F(MemoryChannelTest, AnAnswerThatComesLaterIsTakenByTheNextRequest) {
  fake_.AddSegment(Word(0), kSlotBytes);
  ASSERT_TRUE(Map(0).ok());
  fake_.RemoveSegment(Word(0));
  SegmentMap& segments = memory_->segments();
  for (uint32_t i = 1; segments.Find(Word(0)) != nullptr; ++i) {
    ASSERT_LT(i, 100u);
    segments.UnmapOver(1, absl::ZeroDuration());
    // Its own answer, with another size of slots, and not the one before.
    fake_.AddSegment(Word(i), 64 * i);
    ASSERT_TRUE(Map(i).ok());
    ASSERT_EQ(segments.Find(Word(i))->slot_bytes, 64 * i);
  }
  EXPECT_EQ(segments.unmaps(), 1u);
}

TEST_F(MemoryChannelTest, ASilentDaemonIsAskedOnceAndNotWaitedFor) {
  fake_.AddSegment(Word(0), kSlotBytes);
  ASSERT_TRUE(Map(0).ok());
  fake_.set_silent(true);
  const int requests = fake_.requests();
  const absl::Time begin = absl::Now();
  for (int i = 0; i < 1000; ++i) memory_->segments().UnmapOver(1, absl::ZeroDuration());
  EXPECT_LT(absl::Now() - begin, absl::Seconds(20)) << "500 ms each, if they waited";
  EXPECT_LE(fake_.requests(), requests + 1);
  EXPECT_NE(memory_->segments().Find(Word(0)), nullptr);
  // Who needs an answer waits for that one first, and finds the socket broken.
  EXPECT_TRUE(absl::IsUnavailable(Map(1)));
  fake_.set_silent(false);
  memory_->Keep();
  fake_.AddSegment(Word(1), kSlotBytes);
  EXPECT_TRUE(Map(1).ok());
  fake_.RemoveSegment(Word(0));
  for (int i = 0; i < 2; ++i) memory_->segments().UnmapOver(2, absl::Seconds(20));
  EXPECT_EQ(memory_->segments().mapped(), 1u);
}

TEST_F(MemoryChannelTest, GoodbyeWaitsForAnAnswerThatIsUnderWay) {
  fake_.AddSegment(Word(0), kSlotBytes);
  ASSERT_TRUE(Map(0).ok());
  memory_->segments().UnmapOver(1, absl::ZeroDuration());
  // A child that has the socket, too: closing it takes nothing out of it then.
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::close(pipe_ends[1]);
    char byte;
    ::_exit(::read(pipe_ends[0], &byte, 1) == 0 ? 0 : 1);  // until the other end is closed
  }
  memory_ = nullptr;
  places_.Publish(nullptr);
  EXPECT_TRUE(AwaitGoodbyes(1));
  ::close(pipe_ends[1]);
  EXPECT_EQ(::waitpid(child, nullptr, 0), child);
  ::close(pipe_ends[0]);
}

TEST_F(MemoryChannelTest, GoodbyeIsSaidWhenNothingIsMapped) {
  fake_.AddSegment(Word(0), kSlotBytes);
  ASSERT_TRUE(Map(0).ok());
  SectionPlace* const open = places_.Enter().first;
  memory_ = nullptr;
  places_.Publish(nullptr);
  EXPECT_EQ(GoodbyesSaid(), 0);
  places_.Leave(*open);
  EXPECT_TRUE(AwaitGoodbyes(1));
}

TEST_F(MemoryChannelTest, WhoeverHasASegmentHoldsTheGoodbyeUp) {
  fake_.AddSegment(Word(0), kSlotBytes);
  ASSERT_TRUE(Map(0).ok());
  std::shared_ptr<const MemoryChannel> user;
  {
    SectionPlaces others;
    auto memory = fake_.Attach(others);
    ASSERT_TRUE(memory.ok());
    others.Publish(*memory);
    auto segment = (*memory)->segments().Get(Word(0));
    ASSERT_TRUE(segment.ok());
    user = (*segment)->channel;
  }
  EXPECT_EQ(GoodbyesSaid(), 0);
  user = nullptr;
  EXPECT_TRUE(AwaitGoodbyes(1));
}

TEST_F(MemoryChannelTest, GoodbyeIsSaidByWhoeverCannotGoOnAfterHello) {
  fake_.set_other_version(true);
  SectionPlaces others;
  EXPECT_TRUE(absl::IsFailedPrecondition(fake_.Attach(others).status()));
  EXPECT_TRUE(AwaitGoodbyes(1));
}

TEST_F(MemoryChannelTest, AChildSaysNoGoodbyeForItsParent) {
  fake_.AddSegment(Word(0), kSlotBytes);
  const pid_t child = fork();
  if (child == 0) {
    places_.Publish(nullptr);
    memory_ = nullptr;
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_TRUE(Map(0).ok());
  EXPECT_EQ(fake_.goodbyes(), 0);
}

TEST_F(MemoryChannelTest, SamplesThatMeetAnotherThreadAreCounted) {
  constexpr int kThreads = 4;
  constexpr uint64_t kEach = 100;
  // Long enough for threads to meet.
  const std::vector<wire::Report> reports(50'000);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (uint64_t n = 0; n < kEach; ++n) memory_->Report(reports, /*wait=*/false);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(fake_.page().produced.load() + fake_.page().dropped.load(),
            kThreads * kEach * reports.size());
}

TEST(SectionPlacesOfNobodyTest, LeavingAfterTheClientIsSafeAndFreesInTheEnd) {
  FakeMemory fake;
  auto places = std::make_unique<SectionPlaces>();
  auto memory = fake.Attach(*places);
  ASSERT_TRUE(memory.ok());
  std::weak_ptr<TenantMemory> watch = *memory;
  places->Publish(*std::move(memory));
  SectionPlace* const open = places->Enter().first;
  SectionPlaces::Abandon(std::move(places));
  ASSERT_FALSE(watch.expired());
  EXPECT_EQ(open->memory->index().header().daemon_epoch, FakeMemory::kEpoch);
  SectionPlaces::Abandon(nullptr);
  ASSERT_FALSE(watch.expired());
  open->places->Leave(*open);
  SectionPlaces::Abandon(nullptr);
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace kvtier::testing
