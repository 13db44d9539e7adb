// How chunk keys fall into the buckets of the index.
#pragma once

#include <array>
#include <cstdint>

#include "proto/wire/chunk_key.h"
#include "tiering/base/rng.h"

namespace kvtier {

// A keyed multiply-and-fold over all of the key. Clients choose keys (opaque ones are theirs
// entirely), so where a key falls must not follow from the key alone: whoever does not know the
// seed cannot fill one bucket on purpose. Hashes must not be shown to clients.
class ChunkHash {
 public:
  explicit ChunkHash(uint64_t seed) {
    Rng rng(seed);
    for (uint64_t& word : secret_) word = rng.Next();
  }

  uint64_t operator()(const wire::ChunkKey& key, uint16_t model) const {
    const uint64_t mixed = Fold(key.low() ^ secret_[0], key.high() ^ secret_[1]);
    return Fold(mixed ^ secret_[2], 0x9e3779b97f4a7c15ull ^ model);
  }

 private:
  static uint64_t Fold(uint64_t a, uint64_t b) {
    const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }

  std::array<uint64_t, 3> secret_;
};

}  // namespace kvtier
