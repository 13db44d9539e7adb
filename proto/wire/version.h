// Versions of what crosses a process. A peer with another major version is refused by name; a
// higher minor version only adds.
#pragma once

#include <cstdint>

namespace kvtier::wire {

inline constexpr uint32_t kProtocolMajor = 1;
inline constexpr uint32_t kProtocolMinor = 0;
// Version inside the domain tag of every chunk key; changing it makes all keys different.
inline constexpr uint32_t kChunkKeyVersion = 1;
// Version of the block checksum below; stored with nothing, so it only changes with the major
// version.
inline constexpr uint32_t kBlockChecksumVersion = 1;

}  // namespace kvtier::wire
