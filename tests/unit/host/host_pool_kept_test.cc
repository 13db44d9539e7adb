// What a pool knows of segments that it gave back and processes outside keep: charged to who had
// them, until nobody has them, without being in the way of the pool's own limits.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/waiting_child.h"
#include "tests/unit/host/host_pool_fixture.h"
#include "tiering/host/memfd_access.h"

namespace kvtier {
namespace {

constexpr TenantId kAnna(0);
constexpr TenantId kBert(1);

class KeptTest : public HostPoolTest {
 protected:
  void SetUp() override {
    if (const auto watch = HolderWatch::Create(); !watch.ok())
      GTEST_SKIP() << "no inotify here: " << watch.status();
    ASSERT_THAT(CheckHolderWatch(false), IsOk());
  }
  HostPoolOptions SharedOptions() const {
    HostPoolOptions options = Options();
    options.sealed = true;
    options.huge_pages = false;
    return options;
  }
  // A new segment, for reading.
  static OwnedFd AddForReading(HostPool& pool, SegmentIndex& segment) {
    const auto added = pool.AddSegment();
    EXPECT_THAT(added, IsOk());
    segment = *added;
    EXPECT_THAT(pool.Seal(segment), IsOk());
    auto opened = pool.OpenForReading(segment);
    EXPECT_THAT(opened, IsOk());
    return *std::move(opened);
  }
};

// The pool unmaps in the background what was released.
bool AwaitKept(HostPool& pool, TenantId owner, uint64_t count) {
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(kPatience);
  while (pool.kept(owner) != count) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

// Descriptors of pools' memory in this process.
int Memfds() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const auto target = std::filesystem::read_symlink(entry, gone);
    count += target.string().find("memfd:kvtier:") != std::string::npos;
  }
  return count;
}

TEST_F(KeptTest, WhatNobodyElseHasIsNotKept) {
  const auto pool = NewPool(SharedOptions());
  EXPECT_EQ(pool->stats().holder_note, "");
  ASSERT_OK_AND_ASSIGN(const SegmentIndex never, pool->AddSegment());
  SegmentIndex given;
  AddForReading(*pool, given).Close();
  pool->ReleaseSegment(never, kAnna);
  pool->ReleaseSegment(given, kBert);
  EXPECT_EQ(pool->kept(kAnna), 0u) << "nobody ever had it";
  EXPECT_TRUE(AwaitKept(*pool, kBert, 0));
}

TEST_F(KeptTest, AMappingOfAChildIsChargedToTheOwnerUntilTheChildEnds) {
  const auto pool = NewPool(SharedOptions());
  SegmentIndex segment;
  OwnedFd reader = AddForReading(*pool, segment);
  const auto size = static_cast<size_t>(MiB(2).count());
  void* const mapped = mmap(nullptr, size, PROT_READ, MAP_SHARED, reader.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  reader.Close();
  test_support::WaitingChild child;
  munmap(mapped, size);
  pool->ReleaseSegment(segment, kAnna);
  EXPECT_EQ(pool->kept(kAnna), 1u);
  EXPECT_EQ(pool->kept(kBert), 0u);
  // The pool does not map it any more, and has its whole budget again.
  std::vector<SegmentIndex> all;
  for (uint32_t i = 0; i < pool->segments_max(); ++i) {
    ASSERT_OK_AND_ASSIGN(const SegmentIndex added, pool->AddSegment());
    all.push_back(added);
  }
  EXPECT_TRUE(pool->AwaitPrefault(kPatience));
  EXPECT_EQ(MappingsOfPools(), 4);
  EXPECT_EQ(Memfds(), 4) << "nor has it a descriptor";
  EXPECT_EQ(pool->kept(kAnna), 1u);

  child.End();
  EXPECT_EQ(pool->kept(kAnna), 0u) << "at once";
}

TEST_F(KeptTest, AWritersDescriptorIsCharged) {
  const auto pool = NewPool(SharedOptions());
  ASSERT_OK_AND_ASSIGN(const SegmentIndex segment, pool->AddSegment());
  ASSERT_OK_AND_ASSIGN(OwnedFd writer, pool->OpenForWriting(segment));
  pool->ReleaseSegment(segment, kBert);
  EXPECT_EQ(pool->kept(kBert), 1u);
  writer.Close();
  EXPECT_TRUE(AwaitKept(*pool, kBert, 0));
}

TEST_F(KeptTest, ManyOfTwoOwners) {
  HostPoolOptions options = SharedOptions();
  options.segment_bytes = KiB(4);
  options.budget_bytes = KiB(4) * 64;
  options.prefault_threads = 4;
  const auto pool = NewPool(options);
  std::vector<OwnedFd> annas, berts;
  for (int i = 0; i < 300; ++i) {
    SegmentIndex segment;
    (i % 3 == 0 ? annas : berts).push_back(AddForReading(*pool, segment));
    pool->ReleaseSegment(segment, i % 3 == 0 ? kAnna : kBert);
  }
  EXPECT_TRUE(pool->AwaitPrefault(kPatience));
  EXPECT_EQ(pool->kept(kAnna), 100u);
  EXPECT_EQ(pool->kept(kBert), 200u);
  annas.clear();
  EXPECT_EQ(pool->kept(kAnna), 0u);
  EXPECT_EQ(pool->kept(kBert), 200u);
  berts.clear();
  EXPECT_EQ(pool->kept(kBert), 0u);
}

TEST_F(KeptTest, WhoGotNothingForWantOfDescriptorsGetsItLater) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const auto pool = NewPool(SharedOptions());
  ASSERT_OK_AND_ASSIGN(const SegmentIndex segment, pool->AddSegment());
  ASSERT_THAT(pool->Seal(segment), IsOk());
  ASSERT_TRUE(pool->AwaitPrefault(kPatience));
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto refused = pool->OpenForReading(segment);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_OK_AND_ASSIGN(OwnedFd reader, pool->OpenForReading(segment));
  pool->ReleaseSegment(segment, kAnna);
  EXPECT_EQ(pool->kept(kAnna), 1u);
  ASSERT_TRUE(pool->AwaitPrefault(kPatience));
  EXPECT_EQ(pool->kept(kAnna), 1u);
  reader.Close();
  EXPECT_EQ(pool->kept(kAnna), 0u);
}

TEST_F(KeptTest, WhereNothingCanBeWatchedNothingIsChargedAndThePoolSaysWhy) {
  HostPoolOptions options = SharedOptions();
  options.check_holder_watch = [] { return absl::FailedPreconditionError("watches are off"); };
  const auto pool = NewPool(options);
  EXPECT_EQ(pool->stats().holder_note, "watches are off");
  SegmentIndex segment;
  const OwnedFd reader = AddForReading(*pool, segment);
  pool->ReleaseSegment(segment, kAnna);
  EXPECT_EQ(pool->kept(kAnna), 0u);
}

TEST_F(KeptTest, APoolEndsWhileOthersKeepItsSegments) {
  SegmentIndex segment;
  OwnedFd reader, other;
  {
    const auto pool = NewPool(SharedOptions());
    reader = AddForReading(*pool, segment);
    pool->ReleaseSegment(segment, kAnna);
    other = AddForReading(*pool, segment);
  }
  EXPECT_EQ(Memfds(), 2) << "those of this test";
}

}  // namespace
}  // namespace kvtier
