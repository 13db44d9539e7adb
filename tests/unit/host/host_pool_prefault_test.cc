// Proves that segments are pre-faulted in the background while they are used, handed out
// pre-faulted when they were kept ready, and not handed out at all when the machine has no memory
// for them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "tests/unit/host/host_pool_fixture.h"

namespace kvtier {
namespace {

TEST_F(HostPoolTest, PrefaultsInTheBackgroundWithoutChangingContents) {
  for (const uint32_t threads : {1u, 3u}) {
    HostPoolOptions options = Options();
    options.budget_bytes = MiB(48);
    options.segment_bytes = MiB(12);  // several steps of pre-faulting each
    options.prefault_threads = threads;
    const auto pool = NewPool(options);
    ASSERT_OK_AND_ASSIGN(const SegmentIndex segment, pool->AddSegment());
    std::byte* address = pool->Address(segment);
    const auto bytes = static_cast<size_t>(options.segment_bytes.count());
    for (size_t i = 0; i < bytes; i += 5000) address[i] = static_cast<std::byte>(i % 251);
    EXPECT_TRUE(pool->AwaitPrefault(kPatience));
    EXPECT_EQ(Resident(address, options.segment_bytes), options.segment_bytes);
    for (size_t i = 0; i < bytes; i += 5000)
      ASSERT_EQ(address[i], static_cast<std::byte>(i % 251)) << i;
    const HostPoolStats stats = pool->stats();
    EXPECT_EQ(stats.segments_active, 1u);
    EXPECT_EQ(stats.segments_ready, 1u);
    EXPECT_EQ(stats.mapped_bytes, MiB(24));
    EXPECT_EQ(stats.prefaulted_bytes, MiB(24));
    // All of it is in the kernel's account now.
    EXPECT_EQ(reserve_->untouched(), Bytes(0));
  }
}

TEST_F(HostPoolTest, ReadySegmentsAreHandedOutPrefaulted) {
  HostPoolOptions options = Options();
  options.ready_segments = 2;
  const auto pool = NewPool(options);
  ASSERT_TRUE(pool->AwaitPrefault(kPatience));
  EXPECT_EQ(pool->stats().segments_ready, 2u);
  ASSERT_OK_AND_ASSIGN(const SegmentIndex segment, pool->AddSegment());
  EXPECT_EQ(Resident(pool->Address(segment), MiB(2)), MiB(2));
}

TEST_F(HostPoolTest, WhatCannotBePrefaultedIsNeverHandedOut) {
  for (const uint32_t ready : {0u, 2u}) {
    SCOPED_TRACE(ready);
    std::atomic<bool> memory_left = true;
    HostPoolOptions options = Options();
    options.segment_bytes = MiB(8);  // two steps of pre-faulting; the second one fails
    options.budget_bytes = MiB(64);
    options.ready_segments = ready;
    options.populate = [&](HostSegment& segment, Bytes offset, Bytes bytes) {
      return memory_left || offset == Bytes(0)
                 ? segment.Populate(offset, bytes)
                 : absl::ResourceExhaustedError("no memory, says the test");
    };
    const auto pool = NewPool(options);
    ASSERT_TRUE(pool->AwaitPrefault(kPatience));
    memory_left = false;
    // Hands out what is ready, and at least one; what comes next cannot be pre-faulted.
    std::vector<SegmentIndex> segments;
    for (uint32_t i = 0; i < std::max(1u, ready); ++i) {
      ASSERT_OK_AND_ASSIGN(const SegmentIndex segment, pool->AddSegment());
      segments.push_back(segment);
    }
    ASSERT_TRUE(pool->AwaitPrefault(kPatience));
    EXPECT_EQ(pool->stats().segments_ready, 0u);
    for (int i = 0; i < 3; ++i) {
      EXPECT_THAT(pool->AddSegment(), StatusIs(absl::StatusCode::kResourceExhausted,
                                               AllOf(HasSubstr("dram:0 cannot grow by 8 MiB"),
                                                     HasSubstr("no memory, says the test"))));
      ASSERT_TRUE(pool->AwaitPrefault(kPatience));
    }
    EXPECT_EQ(MappingsOfPools(), static_cast<int>(segments.size()));
    // One in use whose pre-fault failed is not used again either.
    if (ready == 0) {
      pool->ReleaseSegment(segments.back(), TenantId());
      segments.pop_back();
      ASSERT_TRUE(pool->AwaitPrefault(kPatience));
      EXPECT_EQ(MappingsOfPools(), 0);
    }
    // Once there is memory again, the first refusal has a segment made and the next call gets it.
    memory_left = true;
    (void)pool->AddSegment();
    ASSERT_TRUE(pool->AwaitPrefault(kPatience));
    ASSERT_OK_AND_ASSIGN(const SegmentIndex segment, pool->AddSegment());
    if (ready > 0) {
      EXPECT_EQ(Resident(pool->Address(segment), MiB(8)), MiB(8));
    }
    ASSERT_TRUE(pool->AwaitPrefault(kPatience));
    EXPECT_THAT(pool->stats().growth, IsOk());
  }
  EXPECT_EQ(reserve_->untouched(), Bytes(0));
}

}  // namespace
}  // namespace kvtier
