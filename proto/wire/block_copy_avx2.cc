// Compiled with -mavx2 and called only where the CPU has it.
#include <immintrin.h>

#include "proto/wire/block_copy_kernels.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace kvtier::wire::internal {
namespace {

// Far enough ahead to cover a memory access at the rate of one core (about 100 ns at 20 GB/s).
constexpr size_t kPrefetchBytes = 2048;
// So much of a block is prefetched, until the CPU's own prefetch has caught on; beyond, prefetches
// only take slots from loads. Measured with bench/copy_bench on an AMD EPYC, GB/s with prefetches
// to the end / without any: 16 KiB 7.5 / 6.9, 64 KiB 11.9 / 12.3, 256 KiB 14.5 / 15.6.
constexpr size_t kPrefetchedBytes = 16384;

__m256i Load(const char* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
void Stream(char* to, __m256i value) { _mm256_stream_si256(reinterpret_cast<__m256i*>(to), value); }

// All loads before the stores.
void CopyUnit(char* to, const char* from) {
  __m256i values[kNonTemporalUnit / 32];
  for (size_t i = 0; i < kNonTemporalUnit / 32; ++i) values[i] = Load(from + 32 * i);
  for (size_t i = 0; i < kNonTemporalUnit / 32; ++i) Stream(to + 32 * i, values[i]);
}

// Makes the value opaque to the compiler, so that it cannot load it from memory a second time.
void Pin(__m256i& value) { __asm__ volatile("" : "+x"(value)); }

}  // namespace

bool NonTemporalAvailable() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2");
}

void CopyNonTemporal(char* to, const char* from, size_t bytes) {
  // Prefetches stay within the block: what follows it in memory is seldom what is copied next.
  const size_t last_line = bytes - 64;
  size_t offset = 0;
  for (; offset < bytes && offset < kPrefetchedBytes; offset += kNonTemporalUnit) {
    for (size_t line = 0; line < kNonTemporalUnit; line += 64) {
      const size_t ahead = offset + kPrefetchBytes + line;
      _mm_prefetch(from + (ahead < last_line ? ahead : last_line), _MM_HINT_T0);
    }
    CopyUnit(to + offset, from + offset);
  }
  for (; offset < bytes; offset += kNonTemporalUnit) CopyUnit(to + offset, from + offset);
}

uint64_t CopyPieceNonTemporal(char* to, const char* from, const char* next) {
  constexpr size_t kPieceBytes = 4096;
  alignas(64) char piece[kPieceBytes];
  for (size_t offset = 0; offset < kPieceBytes; offset += 128) {
    _mm_prefetch(next + offset, _MM_HINT_T0);
    _mm_prefetch(next + offset + 64, _MM_HINT_T0);
    for (size_t i = offset; i < offset + 128; i += 32) {
      __m256i value = Load(from + i);
      Pin(value);
      _mm256_store_si256(reinterpret_cast<__m256i*>(piece + i), value);
      Stream(to + i, value);
    }
  }
  return XXH3_64bits(piece, kPieceBytes);
}

void NonTemporalFence() { _mm_sfence(); }

}  // namespace kvtier::wire::internal
