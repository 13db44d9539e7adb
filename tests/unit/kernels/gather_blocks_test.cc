// Proves that GatherBlocks refuses bad arguments without touching a device, and, on a device, that
// each byte of blocks scattered in permuted order lands where it belongs and nothing is written
// beyond.
#include "kernels/gather_blocks.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device_probe.h"

namespace kvtier {
namespace {

struct DeviceFree {
  void operator()(uint8_t* p) const { cudaFree(p); }
};
using DeviceBytes = std::unique_ptr<uint8_t, DeviceFree>;

DeviceBytes Allocate(size_t bytes) {
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, bytes), cudaSuccess);
  return DeviceBytes(static_cast<uint8_t*>(p));
}

TEST(GatherBlocksArgumentsTest, NothingToDoIsNoError) { EXPECT_EQ(GatherBlocks({}, nullptr), ""); }

TEST(GatherBlocksArgumentsTest, BadArgumentsAreNamed) {
  const void* sources[1] = {nullptr};
  alignas(16) uint8_t buffer[32];
  const GatherBlocksArgs good{
      .sources = sources, .destination = buffer, .block_count = 1, .block_bytes = 16};
  GatherBlocksArgs bad = good;
  bad.block_bytes = 24;
  EXPECT_NE(GatherBlocks(bad, nullptr).find("block_bytes is 24"), std::string::npos);
  bad = good;
  bad.destination = buffer + 8;
  EXPECT_NE(GatherBlocks(bad, nullptr).find("not aligned"), std::string::npos);
  bad = good;
  bad.sources = nullptr;
  EXPECT_NE(GatherBlocks(bad, nullptr).find("is null"), std::string::npos);
  bad = good;
  bad.block_count = SIZE_MAX / 8;
  EXPECT_NE(GatherBlocks(bad, nullptr).find("exceed the address space"), std::string::npos);
  bad = good;
  bad.thread_blocks_max = 0;
  EXPECT_NE(GatherBlocks(bad, nullptr).find("thread_blocks_max is 0"), std::string::npos);
}

class GatherBlocksTest : public testing::TestWithParam<size_t> {};

TEST_P(GatherBlocksTest, EveryByteLandsInItsPlace) {
  const DeviceReport report = ProbeDevices();
  if (report.devices.empty()) GTEST_SKIP() << "no device: " << report.reason;
  const size_t block_bytes = GetParam();
  constexpr size_t kBlocks = 37;  // prime, so that a multiplier permutes
  constexpr size_t kGuardBytes = 4096;
  const size_t total = kBlocks * block_bytes;

  std::vector<uint8_t> host(total);
  for (size_t i = 0; i < total; ++i) host[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
  DeviceBytes source = Allocate(total);
  DeviceBytes destination = Allocate(total + kGuardBytes);
  DeviceBytes table = Allocate(kBlocks * sizeof(void*));
  ASSERT_EQ(cudaMemcpy(source.get(), host.data(), total, cudaMemcpyHostToDevice), cudaSuccess);
  ASSERT_EQ(cudaMemset(destination.get(), 0xA5, total + kGuardBytes), cudaSuccess);
  std::vector<const void*> addresses(kBlocks);
  for (size_t i = 0; i < kBlocks; ++i) {
    addresses[i] = source.get() + (i * 11 % kBlocks) * block_bytes;
  }
  ASSERT_EQ(
      cudaMemcpy(table.get(), addresses.data(), kBlocks * sizeof(void*), cudaMemcpyHostToDevice),
      cudaSuccess);

  ASSERT_EQ(GatherBlocks({.sources = reinterpret_cast<const void* const*>(table.get()),
                          .destination = destination.get(),
                          .block_count = kBlocks,
                          .block_bytes = block_bytes},
                         nullptr),
            "");
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);

  std::vector<uint8_t> gathered(total + kGuardBytes);
  ASSERT_EQ(cudaMemcpy(gathered.data(), destination.get(), gathered.size(), cudaMemcpyDeviceToHost),
            cudaSuccess);
  for (size_t i = 0; i < total; ++i) {
    const size_t from = (i / block_bytes * 11 % kBlocks) * block_bytes + i % block_bytes;
    ASSERT_EQ(gathered[i], host[from]) << "byte " << i << " of blocks of " << block_bytes;
  }
  for (size_t i = total; i < gathered.size(); ++i) {
    ASSERT_EQ(gathered[i], 0xA5) << "byte " << i - total << " past the end was written";
  }
}

INSTANTIATE_TEST_SUITE_P(BlockBytes, GatherBlocksTest,
                         testing::Values(size_t{16}, size_t{48}, size_t{4096}, size_t{65536}));

}  // namespace
}  // namespace kvtier
