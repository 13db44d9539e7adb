#include "bench/copy_ceiling.h"

#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kvtier::bench {
namespace {

void CopyMemcpy(std::byte* to, const std::byte* from, size_t bytes) {
  std::memcpy(to, from, bytes);
}

#if defined(__x86_64__)
void CopySse2(std::byte* to, const std::byte* from, size_t bytes) {
  for (size_t offset = 0; offset < bytes; offset += 64) {
    const auto* source = reinterpret_cast<const __m128i*>(from + offset);
    auto* destination = reinterpret_cast<__m128i*>(to + offset);
    const __m128i a = _mm_loadu_si128(source);
    const __m128i b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2);
    const __m128i d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(destination, a);
    _mm_stream_si128(destination + 1, b);
    _mm_stream_si128(destination + 2, c);
    _mm_stream_si128(destination + 3, d);
  }
  _mm_sfence();
}

// The first kPrefetched bytes ask for what comes kAhead bytes later; otherwise there is only the
// hardware's own prefetch.
template <size_t kStep, size_t kPrefetched>
__attribute__((target("avx2"))) void CopyAvx2(std::byte* to, const std::byte* from, size_t bytes) {
  constexpr size_t kAhead = 2048;
  for (size_t offset = 0; offset < bytes; offset += kStep) {
    if (offset < kPrefetched && offset + kAhead < bytes) {
      for (size_t line = 0; line < kStep; line += 64)
        _mm_prefetch(reinterpret_cast<const char*>(from + offset + kAhead + line), _MM_HINT_T0);
    }
    __m256i values[kStep / 32];
    for (size_t i = 0; i < kStep / 32; ++i)
      values[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + offset) + i);
    for (size_t i = 0; i < kStep / 32; ++i)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(to + offset) + i, values[i]);
  }
  _mm_sfence();
}

__attribute__((target("avx512f"))) void CopyAvx512(std::byte* to, const std::byte* from,
                                                   size_t bytes) {
  for (size_t offset = 0; offset < bytes; offset += 256) {
    const auto* source = from + offset;
    auto* destination = to + offset;
    const __m512i a = _mm512_loadu_si512(source);
    const __m512i b = _mm512_loadu_si512(source + 64);
    const __m512i c = _mm512_loadu_si512(source + 128);
    const __m512i d = _mm512_loadu_si512(source + 192);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(destination), a);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(destination + 64), b);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(destination + 128), c);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(destination + 192), d);
  }
  _mm_sfence();
}
#endif

std::vector<CeilingLoop> LoopsOfThisCpu() {
  std::vector<CeilingLoop> loops = {{"memcpy", "memcpy", &CopyMemcpy}};
#if defined(__x86_64__)
  loops.push_back({"sse2_64", "SSE2, 64 bytes a step, non-temporal stores", &CopySse2});
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) {
    loops.push_back({"avx2_128", "AVX2, 128 bytes a step, non-temporal stores", &CopyAvx2<128, 0>});
    loops.push_back({"avx2_256", "AVX2, 256 bytes a step, non-temporal stores", &CopyAvx2<256, 0>});
    loops.push_back({"avx2_256_prefetch",
                     "AVX2, 256 bytes a step, all prefetched 2 KiB ahead, non-temporal stores",
                     &CopyAvx2<256, SIZE_MAX>});
    loops.push_back({"avx2_256_prefetch_16k",
                     "AVX2, 256 bytes a step, the first 16 KiB prefetched, non-temporal stores",
                     &CopyAvx2<256, 16384>});
  }
  if (__builtin_cpu_supports("avx512f")) {
    loops.push_back({"avx512_256", "AVX-512, 256 bytes a step, non-temporal stores", &CopyAvx512});
  }
#endif
  return loops;
}

}  // namespace

absl::Span<const CeilingLoop> CeilingLoops() {
  static const std::vector<CeilingLoop>* const loops = new std::vector(LoopsOfThisCpu());
  return *loops;
}

}  // namespace kvtier::bench
