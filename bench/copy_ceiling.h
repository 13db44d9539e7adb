// The ceiling of the copy figures: the plainest loop of non-temporal stores, in a file of its own
// so that nothing of the code it is compared with is in it.
#pragma once

#include <cstddef>

namespace kvtier::bench {

// Copies `bytes`, a multiple of 128, to `to`, aligned to 32 bytes. memcpy on CPUs without AVX2.
void CeilingCopy(std::byte* to, const std::byte* from, size_t bytes);

}  // namespace kvtier::bench
