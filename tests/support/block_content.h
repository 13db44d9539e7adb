// Bytes that follow from what a block is, so that a reader can tell whose block it was handed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "absl/types/span.h"
#include "proto/wire/checksum.h"
#include "proto/wire/chunk_key.h"
#include "tiering/base/bytes.h"
#include "tiering/base/ids.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {

// The content that tests give to the block of `key` in `plane`; differs in every argument.
inline std::vector<std::byte> BlockContent(TenantId tenant, ModelId model,
                                           const wire::ChunkKey& key, PlaneIndex plane,
                                           Bytes bytes) {
  Rng rng(key.low() ^ Rng(key.high() ^ (uint64_t{tenant.value()} << 32 |
                                        uint64_t{model.value()} << 16 | plane.value()))
                          .Next());
  std::vector<std::byte> content(static_cast<size_t>(bytes.count()));
  for (size_t i = 0; i < content.size(); i += 8) {
    const uint64_t word = rng.Next();
    std::memcpy(content.data() + i, &word, std::min<size_t>(8, content.size() - i));
  }
  return content;
}

inline uint64_t ContentChecksum(const std::vector<std::byte>& content) {
  return wire::BlockChecksum({content.data(), content.size()});
}

// A raw key that follows from a number: tests that need no tokens name chunks with it.
inline wire::ChunkKey NumberedKey(uint64_t number) {
  Rng rng(number * 2 + 1);
  wire::ChunkKey key;
  const uint64_t words[2] = {rng.Next(), rng.Next()};
  std::memcpy(key.bytes.data(), words, sizeof(words));
  return key;
}

}  // namespace kvtier::test_support
