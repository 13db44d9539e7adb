// The ceiling of the copy figures: the plainest loops there are, in a file of their own so that
// nothing of the code they are compared with is in them. Which one is fastest depends on the CPU.
#pragma once

#include <cstddef>

#include "absl/types/span.h"

namespace kvtier::bench {

struct CeilingLoop {
  const char* name;         // a word: "avx2_128" moves 128 bytes a step
  const char* description;  // "AVX2, 128 bytes a step, non-temporal stores"
  // Copies `bytes`, a multiple of 256, to `to`, aligned to 64 bytes.
  void (*copy)(std::byte* to, const std::byte* from, size_t bytes);
};

// Those that this CPU has the instructions for; memcpy first. Thread-safe.
absl::Span<const CeilingLoop> CeilingLoops();

}  // namespace kvtier::bench
