// Gathers scattered blocks of one size into a contiguous buffer with one kernel launch: below about
// 64 KiB a fragment, that beats one copy-engine transfer each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvtier {

// Blocks are copied in words of this size; addresses and sizes are multiples of it.
inline constexpr size_t kGatherWordBytes = 16;

// Everything is device-accessible memory: device memory, or host memory registered with the driver.
struct GatherBlocksArgs {
  const void* const* sources =
      nullptr;                  // block_count addresses, themselves in device-accessible memory
  void* destination = nullptr;  // block_count * block_bytes
  size_t block_count = 0;
  size_t block_bytes = 0;
  // Thread blocks launched at most. Few leave the multiprocessors to the model's own kernels.
  int thread_blocks_max = 4;
};

// Enqueues on `stream` (a cudaStream_t; null is the default stream) of the current device and
// returns without waiting. The result is empty when enqueued, else what is wrong: a bad argument,
// or the launch error. The caller keeps all memory alive until the stream has passed the kernel.
// Thread-safe.
std::string GatherBlocks(const GatherBlocksArgs& args, void* stream);

}  // namespace kvtier
