// How `kvtier replay` asks for the chunks of a prompt, so that simulations can do the same.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

namespace kvtier::sim {

inline constexpr uint32_t kReplayLookupChunks = 1024;  // that one lookup names
inline constexpr uint64_t kReplayBufferBytes = 4 << 20;

// That one reservation is for, and one read.
inline uint32_t ReplayBatchChunks(uint64_t chunk_bytes) {
  return static_cast<uint32_t>(
      std::clamp<uint64_t>(kReplayBufferBytes / chunk_bytes, 1, kReplayLookupChunks));
}

// A line about a request: a 1 for each of its chunks that was read, then a 0 for each that was
// computed.
inline std::string HitLine(uint32_t chunks, uint32_t hits) {
  return std::string(hits, '1').append(chunks - hits, '0').append(1, '\n');
}

}  // namespace kvtier::sim
