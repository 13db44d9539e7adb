// What the tests of pools in host memory share: pools on a machine that has as much memory as the
// test says, and what the kernel knows of them.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/support/topologies.h"
#include "tiering/host/host_pool.h"

namespace kvtier {

using test_support::IsOk;
using test_support::OneNodeTopology;
using test_support::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

inline constexpr absl::Duration kPatience = absl::Seconds(60);

// How many mappings of this process come from pools.
inline int MappingsOfPools() {
  std::stringstream maps;
  maps << std::ifstream("/proc/self/maps").rdbuf();
  int count = 0;
  for (std::string line; std::getline(maps, line);)
    count += line.find("memfd:kvtier:") != std::string::npos;
  return count;
}

// Bytes of the segment that are in memory.
inline Bytes Resident(const std::byte* address, Bytes bytes) {
  std::vector<unsigned char> pages(static_cast<size_t>(bytes.count() / 4096));
  EXPECT_EQ(
      mincore(const_cast<std::byte*>(address), static_cast<size_t>(bytes.count()), pages.data()),
      0);
  return KiB(4) *
         std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return page & 1; });
}

class HostPoolTest : public ::testing::Test {
 protected:
  HostPoolTest() {
    reserve_ = std::make_shared<MemoryReserve>(MemoryReserve::Options{
        .reserve = MiB(100),
        .machine_memory = [this]() -> absl::StatusOr<MachineMemory> {
          return MachineMemory{.available = MiB(available_mib_), .limit = "a test"};
        },
        .node_memory = [](int) -> absl::StatusOr<Bytes> { return GiB(64); },
        .free_huge_pages = [this](int) { return huge_; }});
  }
  HostPoolOptions Options() const {
    return {
        .budget_bytes = MiB(8), .segment_bytes = MiB(2), .reserve = reserve_, .ready_segments = 1};
  }
  std::unique_ptr<HostPool> NewPool(const HostPoolOptions& options,
                                    const Topology& topology = OneNodeTopology()) {
    auto pool = HostPool::CreateDram(0, options, topology);
    EXPECT_THAT(pool, IsOk());
    return pool.ok() ? *std::move(pool) : nullptr;
  }

  std::atomic<int64_t> available_mib_{16 << 10};
  Bytes huge_;
  std::shared_ptr<MemoryReserve> reserve_;
};

}  // namespace kvtier
