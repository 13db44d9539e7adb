// Identity of a chunk: a 128-bit key chained over the prefix.
//
// key = first 128 bits of SHA-256 over, in this order (integers little-endian):
//   "kvtier.chunk" (12 bytes), u32 kChunkKeyVersion, u8 form (1 = tokens, 2 = opaque),
//   u32 length and bytes of the tenant's salt, 32 bytes model fingerprint, 16 bytes parent key
//   (zero: root), form 1: u32 token count, that many u32 tokens;   form 2: u32 length and the
//   engine's own key bytes; u32 length and bytes of `extra`.
// Golden vectors in tests/unit/wire pin this.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace kvtier::wire {

struct ChunkKey {
  std::array<uint8_t, 16> bytes{};

  // Two words instead of a call to memcmp: every lookup compares keys.
  bool operator==(const ChunkKey& other) const {
    return low() == other.low() && high() == other.high();
  }
  auto operator<=>(const ChunkKey&) const = default;
  bool is_zero() const { return *this == ChunkKey{}; }
  // The first and the last eight bytes as numbers: keys are uniform, so these are ready-made
  // hashes.
  uint64_t low() const {
    uint64_t v;
    std::memcpy(&v, bytes.data(), 8);
    return v;
  }
  uint64_t high() const {
    uint64_t v;
    std::memcpy(&v, bytes.data() + 8, 8);
    return v;
  }
  std::string ToHex() const;

  template <typename H>
  friend H AbslHashValue(H h, const ChunkKey& key) {
    return H::combine(std::move(h), key.low());
  }
};

inline constexpr size_t kChunkKeyBytes = 16;
using ModelFingerprint = std::array<uint8_t, 32>;

// What all keys of one tenant and model have in common.
struct KeyScope {
  std::string tenant_salt;
  ModelFingerprint fingerprint{};
};

// Key of the chunk that holds `tokens` after `parent` (the zero key for the first chunk). `extra`
// names what else changed the cache: adapter, media, prompt embeddings.
ChunkKey TokenChunkKey(const KeyScope& scope, const ChunkKey& parent,
                       absl::Span<const uint32_t> tokens, std::string_view extra = {});

// Key of a chunk that an engine names itself by `engine_key`, any bytes of any length. `parent` is
// the zero key where the engine does not tell it.
ChunkKey OpaqueChunkKey(const KeyScope& scope, const ChunkKey& parent, std::string_view engine_key,
                        std::string_view extra = {});

// Keys of all chunks of `tokens` in order: full chunks of `chunk_tokens`, then the shorter tail if
// any. `chunk_tokens` > 0.
std::vector<ChunkKey> PrefixKeys(const KeyScope& scope, absl::Span<const uint32_t> tokens,
                                 uint32_t chunk_tokens, std::string_view extra = {});

}  // namespace kvtier::wire
