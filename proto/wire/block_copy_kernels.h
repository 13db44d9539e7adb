// The part of the block copies that is compiled for a particular CPU. No C++ library headers here:
// what the compiler makes of their inline functions in the AVX2 file could be picked by the linker
// for all.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace kvtier::wire::internal {

// Whether the two functions below may be called on this CPU.
bool NonTemporalAvailable();

inline constexpr size_t kNonTemporalAlignment = 32;
inline constexpr size_t kNonTemporalUnit = 256;

// Copies `bytes`, a multiple of kNonTemporalUnit, to `to`, which is aligned to
// kNonTemporalAlignment. The caller fences (NonTemporalFence) after its last call.
void CopyNonTemporal(char* to, const char* from, size_t bytes);

// Copies a piece of 4096 bytes to `to`, aligned likewise, reading each byte of `from` once, and
// returns XXH3-64 of what was copied. Meanwhile it fetches the 4096 bytes at `next` into the cache;
// `next` may be `from`.
uint64_t CopyPieceNonTemporal(char* to, const char* from, const char* next);

void NonTemporalFence();

}  // namespace kvtier::wire::internal
