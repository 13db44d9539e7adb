#include "bench/copy_ceiling.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kvtier::bench {

#if defined(__x86_64__)
namespace {

__attribute__((target("avx2"))) void CopyAvx2(std::byte* to, const std::byte* from, size_t bytes) {
  for (size_t offset = 0; offset < bytes; offset += 128) {
    const auto* source = reinterpret_cast<const __m256i*>(from + offset);
    auto* destination = reinterpret_cast<__m256i*>(to + offset);
    const __m256i a = _mm256_loadu_si256(source);
    const __m256i b = _mm256_loadu_si256(source + 1);
    const __m256i c = _mm256_loadu_si256(source + 2);
    const __m256i d = _mm256_loadu_si256(source + 3);
    _mm256_stream_si256(destination, a);
    _mm256_stream_si256(destination + 1, b);
    _mm256_stream_si256(destination + 2, c);
    _mm256_stream_si256(destination + 3, d);
  }
  _mm_sfence();
}

}  // namespace

void CeilingCopy(std::byte* to, const std::byte* from, size_t bytes) {
  static const bool avx2 = __builtin_cpu_supports("avx2");
  if (avx2) {
    CopyAvx2(to, from, bytes);
  } else {
    std::memcpy(to, from, bytes);
  }
}
#else
void CeilingCopy(std::byte* to, const std::byte* from, size_t bytes) {
  std::memcpy(to, from, bytes);
}
#endif

}  // namespace kvtier::bench
