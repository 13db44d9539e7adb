// Short names of the memory orders in which shared words are read and written.
#pragma once

#include <atomic>

namespace kvtier {

inline constexpr auto kRelaxed = std::memory_order_relaxed;
inline constexpr auto kRelease = std::memory_order_release;

}  // namespace kvtier
