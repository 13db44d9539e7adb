// Copies of blocks on the CPU, plain and with the checksum computed on the way.
//
// Blocks of kNonTemporalBytesMin and more are written with non-temporal stores where the CPU has
// AVX2: they do not read the destination before overwriting it, and do not push anything out of the
// caches. What is written is fenced before the call returns, so that other threads which learn of
// it see it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvtier::wire {

// Below this the copied bytes are likely to be read again while they are in the cache, and little
// is gained. Measured with bench/copy_bench (cold 4 KiB pages, one core of an AMD EPYC with AVX2, a
// virtual machine; google-benchmark's means), GB/s of memcpy / a non-temporal loop:
//   4 KiB 4.8 / 6.4, 8 KiB 5.6 / 8.0, 64 KiB 8.0 / 10.6, 256 KiB 5.9 / 13.9.
inline constexpr size_t kNonTemporalBytesMin = 8192;

// Copies `bytes` bytes. The ranges must not overlap. Thread-safe, as all here.
void CopyBytes(std::byte* to, const std::byte* from, size_t bytes);

// Copies `bytes` bytes and returns the BlockChecksum of what it wrote to `to`.
//
// Every source byte is read from memory exactly once: a piece is read into registers, and from
// there both written to the destination and hashed. So even when somebody changes the source during
// the call, the checksum returned is that of the bytes copied: if it is the expected one, the
// destination holds the expected bytes. It does not vouch for the destination afterwards: who else
// can write there can change it.
uint64_t CopyWithChecksum(std::byte* to, const std::byte* from, size_t bytes);

// Copies `bytes` bytes that are the pieces number `first_piece` and on of a block, whole ones but
// for the block's last, in the same way, and returns `combined` with their checksums added
// (CombinePiece). From ChecksumSeed on, over all of a block's pieces in any order, that is the
// block's checksum. Nothing is fenced: call CopyFence after the last one.
uint64_t CopyPieces(std::byte* to, const std::byte* from, size_t bytes, uint64_t first_piece,
                    uint64_t combined);
// What CopyPieces wrote before it is seen by whoever sees what this thread writes after it.
void CopyFence();

// What the copies of this process run on: "avx2" or "portable".
const char* BlockCopyKernelName();

}  // namespace kvtier::wire
