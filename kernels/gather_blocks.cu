#include <cuda_runtime.h>

#include <algorithm>
#include <string>

#include "kernels/gather_blocks.h"

namespace kvtier {
namespace {

constexpr int kThreadsPerBlock = 256;
static_assert(sizeof(uint4) == kGatherWordBytes, "a word is one 128-bit load");

// Words of all blocks are numbered through; a thread takes every grid-size-th one. Neighbouring
// threads read neighbouring words of one block, so loads and stores are coalesced except across
// block borders.
__global__ void GatherKernel(const void* const* sources, uint4* destination, size_t words_per_block,
                             size_t total_words) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total_words;
       i += step) {
    const size_t block = i / words_per_block;
    const auto* source = static_cast<const uint4*>(sources[block]);
    destination[i] = source[i - block * words_per_block];
  }
}

}  // namespace

std::string GatherBlocks(const GatherBlocksArgs& args, void* stream) {
  if (args.block_count == 0) return "";
  if (args.sources == nullptr || args.destination == nullptr) {
    return "gather_blocks: sources or destination is null";
  }
  if (args.block_bytes == 0 || args.block_bytes % kGatherWordBytes != 0) {
    return "gather_blocks: block_bytes is " + std::to_string(args.block_bytes) +
           ", not a positive multiple of " + std::to_string(kGatherWordBytes);
  }
  if (reinterpret_cast<uintptr_t>(args.destination) % kGatherWordBytes != 0) {
    return "gather_blocks: destination is not aligned to " + std::to_string(kGatherWordBytes);
  }
  if (args.block_count > SIZE_MAX / args.block_bytes) {
    return "gather_blocks: " + std::to_string(args.block_count) + " blocks of " +
           std::to_string(args.block_bytes) + " bytes exceed the address space";
  }
  if (args.thread_blocks_max < 1) {
    return "gather_blocks: thread_blocks_max is " + std::to_string(args.thread_blocks_max) +
           ", below 1";
  }
  const size_t words_per_block = args.block_bytes / kGatherWordBytes;
  const size_t total_words = words_per_block * args.block_count;
  const size_t needed = (total_words + kThreadsPerBlock - 1) / kThreadsPerBlock;
  const auto grid =
      static_cast<unsigned>(std::min(needed, static_cast<size_t>(args.thread_blocks_max)));
  GatherKernel<<<grid, kThreadsPerBlock, 0, static_cast<cudaStream_t>(stream)>>>(
      args.sources, static_cast<uint4*>(args.destination), words_per_block, total_words);
  const cudaError_t launched = cudaGetLastError();
  if (launched == cudaSuccess) return "";
  return std::string("gather_blocks: launch: ") + cudaGetErrorName(launched) + ": " +
         cudaGetErrorString(launched);
}

}  // namespace kvtier
