// The contract of MemoryPool, run on every implementation: a pool grows to segments_max() and no
// further, refuses without changing anything, hands out indices and addresses that do not collide
// and bytes that are zero, and leaves the bytes of a segment alone for as long as it exists,
// whatever happens to others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "sim/sim_pool.h"
#include "tests/support/status_matchers.h"
#include "tests/support/topologies.h"
#include "tiering/base/rng.h"
#include "tiering/host/host_pool.h"
#include "tiering/memory/memory_pool.h"

namespace kvtier {
namespace {

using test_support::IsOk;
using test_support::OneNodeTopology;
using test_support::StatusIs;
using ::testing::HasSubstr;

constexpr Bytes kSegmentBytes = KiB(64);
constexpr uint32_t kSegmentsMax = 5;

struct Implementation {
  std::string name;
  PoolKind kind;
  bool emulated;
  bool has_bytes;
  std::function<std::unique_ptr<MemoryPool>()> make;
};

HostPoolOptions HostOptions() {
  return {.budget_bytes = kSegmentBytes * kSegmentsMax,
          .segment_bytes = kSegmentBytes,
          .reserve = std::make_shared<MemoryReserve>(MemoryReserve::Options{.reserve = Bytes(0)}),
          .ready_segments = 2};
}

std::unique_ptr<MemoryPool> Made(absl::StatusOr<std::unique_ptr<HostPool>> pool) {
  EXPECT_THAT(pool, IsOk());
  return pool.ok() ? *std::move(pool) : nullptr;
}

std::unique_ptr<MemoryPool> MakeSim(bool with_bytes, Bytes tag_bytes = Bytes(0)) {
  return std::make_unique<sim::SimPool>(sim::SimPool::Options{.name = "dram:0",
                                                              .segment_bytes = kSegmentBytes,
                                                              .segments_max = kSegmentsMax,
                                                              .with_bytes = with_bytes,
                                                              .tag_bytes = tag_bytes});
}

std::vector<Implementation> Implementations() {
  return {
      {"DramPool", PoolKind::kDram, false, true,
       [] { return Made(HostPool::CreateDram(0, HostOptions(), OneNodeTopology())); }},
      {"EmulatedHbmPool", PoolKind::kHbm, true, true,
       [] { return Made(HostPool::CreateEmulatedHbm(0, HostOptions(), OneNodeTopology())); }},
      {"SimPoolWithBytes", PoolKind::kDram, true, true, [] { return MakeSim(true); }},
      {"SimPoolWithoutBytes", PoolKind::kDram, true, false, [] { return MakeSim(false); }},
      {"SimPoolWithTags", PoolKind::kDram, true, false, [] { return MakeSim(false, KiB(4)); }},
  };
}

class MemoryPoolContract : public ::testing::TestWithParam<Implementation> {
 protected:
  MemoryPoolContract() : pool_(GetParam().make()) {}

  SegmentIndex Add() {
    const auto segment = pool_->AddSegment();
    EXPECT_THAT(segment, IsOk());
    return segment.value_or(SegmentIndex(0xffffffffu));
  }
  // Every eighth byte says whose it is.
  void Fill(SegmentIndex segment, uint64_t mark) {
    std::byte* address = pool_->Address(segment);
    for (int64_t i = 0; i < kSegmentBytes.count(); i += 8)
      address[i] = static_cast<std::byte>(mark + i / 8);
  }
  bool Holds(SegmentIndex segment, uint64_t mark) {
    const std::byte* address = pool_->Address(segment);
    for (int64_t i = 0; i < kSegmentBytes.count(); i += 8) {
      if (address[i] != static_cast<std::byte>(mark + i / 8)) return false;
    }
    return true;
  }

  std::unique_ptr<MemoryPool> pool_;
};

TEST_P(MemoryPoolContract, SaysWhatItIs) {
  const PoolDescription before = pool_->description();
  EXPECT_FALSE(before.name.empty());
  EXPECT_EQ(before.kind, GetParam().kind);
  EXPECT_EQ(before.emulated, GetParam().emulated);
  EXPECT_GE(before.page_bytes, KiB(4));
  EXPECT_EQ(pool_->segment_bytes(), kSegmentBytes);
  EXPECT_EQ(pool_->segments_max(), kSegmentsMax);
  Add();
  EXPECT_EQ(pool_->description().name, before.name);
  EXPECT_EQ(pool_->description().page_bytes, before.page_bytes);
  EXPECT_EQ(pool_->segment_bytes(), kSegmentBytes);
  EXPECT_EQ(pool_->segments_max(), kSegmentsMax);
}

TEST_P(MemoryPoolContract, GrowsToItsMaximumAndNoFurther) {
  std::set<uint32_t> indices;
  for (uint32_t i = 0; i < kSegmentsMax; ++i) {
    const SegmentIndex segment = Add();
    EXPECT_LT(segment.value(), kSegmentsMax);
    EXPECT_TRUE(indices.insert(segment.value()).second)
        << "segment " << segment.value() << " twice";
  }
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(pool_->AddSegment(), StatusIs(absl::StatusCode::kResourceExhausted,
                                              HasSubstr(pool_->description().name)));
  }
  // The refusals changed nothing: one given back is one more to have.
  pool_->ReleaseSegment(SegmentIndex(2), TenantId());
  EXPECT_EQ(Add(), SegmentIndex(2));
  EXPECT_THAT(pool_->AddSegment(), StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_P(MemoryPoolContract, AddressesAreApart) {
  std::map<std::byte*, SegmentIndex> addresses;
  for (uint32_t i = 0; i < kSegmentsMax; ++i) {
    const SegmentIndex segment = Add();
    std::byte* address = pool_->Address(segment);
    EXPECT_EQ(address != nullptr, GetParam().has_bytes);
    if (address == nullptr) continue;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(address) % 4096, 0u);
    addresses[address] = segment;
    Fill(segment, segment.value() * 31);
  }
  std::byte* end = nullptr;
  for (const auto& entry : addresses) {
    EXPECT_GE(entry.first, end);
    end = entry.first + kSegmentBytes.count();
    EXPECT_TRUE(Holds(entry.second, entry.second.value() * 31))
        << "segment " << entry.second.value();
  }
}

TEST_P(MemoryPoolContract, BytesStayWhileOtherSegmentsComeAndGo) {
  const char* given = std::getenv("KVTIER_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : 20;
  SCOPED_TRACE("KVTIER_TEST_SEED=" + std::to_string(seed));
  Rng rng(seed);
  std::map<SegmentIndex, uint64_t> marks;
  for (int step = 0; step < 300; ++step) {
    if (marks.size() == kSegmentsMax || (!marks.empty() && rng.OneIn(2))) {
      const auto victim = std::next(marks.begin(), static_cast<int64_t>(rng.Below(marks.size())));
      pool_->ReleaseSegment(victim->first, TenantId());
      marks.erase(victim);
    } else {
      const SegmentIndex segment = Add();
      ASSERT_LT(segment.value(), kSegmentsMax);
      ASSERT_EQ(marks.count(segment), 0u) << "segment " << segment.value() << " exists already";
      marks[segment] = rng.Next();
      if (GetParam().has_bytes) Fill(segment, marks[segment]);
    }
    if (!GetParam().has_bytes) continue;
    for (const auto& entry : marks) {
      ASSERT_TRUE(Holds(entry.first, entry.second))
          << "step " << step << " segment " << entry.first.value();
    }
  }
}

// Whoever had a segment before may have been another tenant.
TEST_P(MemoryPoolContract, NothingOfAReleasedSegmentComesBack) {
  if (!GetParam().has_bytes) GTEST_SKIP() << "segments of this pool have no bytes";
  for (int round = 0; round < 20; ++round) {
    std::vector<SegmentIndex> segments;
    for (uint32_t i = 0; i < kSegmentsMax; ++i) {
      segments.push_back(Add());
      const std::byte* address = pool_->Address(segments.back());
      ASSERT_TRUE(std::all_of(address, address + kSegmentBytes.count(),
                              [](std::byte byte) { return byte == std::byte{0}; }))
          << "round " << round << " segment " << i;
      Fill(segments.back(), 1 + i);
    }
    for (const SegmentIndex segment : segments) pool_->ReleaseSegment(segment, TenantId());
  }
}

TEST_P(MemoryPoolContract, AddressMayBeAskedByAnyThread) {
  const SegmentIndex segment = Add();
  std::byte* const expected = pool_->Address(segment);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0};
  std::atomic<uint64_t> asked{0};
  std::thread reader([&] {
    while (!stop.load()) {
      if (pool_->Address(segment) != expected) ++wrong;
      ++asked;
    }
  });
  while (asked.load() == 0) std::this_thread::yield();
  for (int round = 0; round < 50; ++round) pool_->ReleaseSegment(Add(), TenantId());
  stop.store(true);
  reader.join();
  EXPECT_EQ(wrong.load(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Pools, MemoryPoolContract, ::testing::ValuesIn(Implementations()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace kvtier
