// Pins the format of chunk keys: the golden vectors were computed from its description by
// chunk_key_vectors.py, which shares no code with the library. Then: whatever makes a chunk
// different makes its key different, and PrefixKeys agrees with the single steps.
#include "proto/wire/chunk_key.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <string>
#include <vector>

namespace kvtier::wire {
namespace {

using Tokens = std::vector<uint32_t>;

KeyScope TestScope() {
  KeyScope scope;
  scope.tenant_salt = "tenant-salt";
  std::iota(scope.fingerprint.begin(), scope.fingerprint.end(), uint8_t{0});
  return scope;
}

const std::string kEngineKey("engine\0key", 10);

TEST(ChunkKeyTest, GoldenVectors) {
  const KeyScope scope = TestScope();
  const ChunkKey root = TokenChunkKey(scope, {}, Tokens{1, 2, 3, 4});
  const ChunkKey child = TokenChunkKey(scope, root, Tokens{5, 6, 7, 0xffffffffu});
  EXPECT_EQ(root.ToHex(), "3edd1fb7ec0ef3b00d867535c2482688");
  EXPECT_EQ(child.ToHex(), "8c52080b38a123cb152d024895b915cc");
  EXPECT_EQ(TokenChunkKey(scope, child, Tokens{9, 10}).ToHex(), "f75ce6a7efbe173a0f1d5efba403b615");
  EXPECT_EQ(TokenChunkKey(scope, {}, Tokens{1, 2, 3, 4}, "lora:7").ToHex(),
            "04bdb9bedc8fac5f06d34edfdd5911f4");
  EXPECT_EQ(OpaqueChunkKey(scope, {}, kEngineKey).ToHex(), "5afff9a888c3eb8f9dac000854c7c9dc");
  EXPECT_EQ(OpaqueChunkKey(scope, root, kEngineKey, "image").ToHex(),
            "709a2cd05435c91ec7931e9518aa59bb");
  KeyScope other_salt = scope;
  other_salt.tenant_salt.clear();
  EXPECT_EQ(TokenChunkKey(other_salt, {}, Tokens{1, 2, 3, 4}).ToHex(),
            "2139cd2180db0131951fda260ecce1e4");
  KeyScope other_model = scope;
  other_model.fingerprint = {};
  EXPECT_EQ(TokenChunkKey(other_model, {}, Tokens{1, 2, 3, 4}).ToHex(),
            "5381f9c6f39d940b42531f894277eb6c");
}

TEST(ChunkKeyTest, WhateverDiffersMakesAnotherKey) {
  const KeyScope scope = TestScope();
  KeyScope other_salt = scope;
  other_salt.tenant_salt += 'x';
  KeyScope other_model = scope;
  other_model.fingerprint[31] ^= 1;
  const ChunkKey parent = TokenChunkKey(scope, {}, Tokens{8});
  const std::vector<ChunkKey> keys = {
      TokenChunkKey(scope, {}, Tokens{1, 2}),
      TokenChunkKey(scope, {}, Tokens{2, 1}),
      TokenChunkKey(scope, {}, Tokens{1}),
      TokenChunkKey(scope, {}, Tokens{}),
      TokenChunkKey(scope, {}, Tokens{1, 2}, "a"),
      TokenChunkKey(scope, {}, Tokens{1, 2}, "b"),
      TokenChunkKey(scope, parent, Tokens{1, 2}),
      TokenChunkKey(other_salt, {}, Tokens{1, 2}),
      TokenChunkKey(other_model, {}, Tokens{1, 2}),
      OpaqueChunkKey(scope, {}, "ab"),
      OpaqueChunkKey(scope, {}, "a"),
      // The same bytes, cut elsewhere: lengths keep them apart.
      OpaqueChunkKey(scope, {}, "a", "b"),
      OpaqueChunkKey(scope, {}, "", "ab"),
      OpaqueChunkKey(scope, parent, "ab"),
      // The same field bytes as the tokens {1, 2} have: the form keeps them apart.
      OpaqueChunkKey(scope, {}, std::string("\1\0\0\0\2\0\0\0", 8)),
  };
  EXPECT_EQ(std::set<ChunkKey>(keys.begin(), keys.end()).size(), keys.size());
  for (const ChunkKey& key : keys) EXPECT_FALSE(key.is_zero());
}

TEST(ChunkKeyTest, PrefixKeysAreTheChain) {
  const KeyScope scope = TestScope();
  Tokens tokens(11);
  std::iota(tokens.begin(), tokens.end(), 100u);
  const std::vector<ChunkKey> keys = PrefixKeys(scope, tokens, 4, "extra");
  ASSERT_EQ(keys.size(), 3u);
  const absl::Span<const uint32_t> span(tokens);
  EXPECT_EQ(keys[0], TokenChunkKey(scope, {}, span.subspan(0, 4), "extra"));
  EXPECT_EQ(keys[1], TokenChunkKey(scope, keys[0], span.subspan(4, 4), "extra"));
  EXPECT_EQ(keys[2], TokenChunkKey(scope, keys[1], span.subspan(8, 3), "extra"));
  // A longer text keeps the keys of its full chunks; a shorter tail is another chunk.
  const std::vector<ChunkKey> shorter = PrefixKeys(scope, span.first(10), 4, "extra");
  EXPECT_EQ(shorter[0], keys[0]);
  EXPECT_EQ(shorter[1], keys[1]);
  EXPECT_NE(shorter[2], keys[2]);
}

TEST(ChunkKeyTest, PrefixKeysAtTheEdges) {
  const KeyScope scope = TestScope();
  EXPECT_TRUE(PrefixKeys(scope, {}, 4).empty());
  EXPECT_EQ(PrefixKeys(scope, Tokens{1, 2, 3, 4}, 4).size(), 1u);
  EXPECT_EQ(PrefixKeys(scope, Tokens{1, 2, 3, 4, 5}, 4).size(), 2u);
  EXPECT_EQ(PrefixKeys(scope, Tokens{1, 2, 3}, 1).size(), 3u);
  EXPECT_EQ(PrefixKeys(scope, Tokens{1, 2, 3}, 0xffffffffu).size(), 1u);
}

TEST(ChunkKeyTest, ToHexAndHalves) {
  ChunkKey key;
  EXPECT_TRUE(key.is_zero());
  EXPECT_EQ(key.ToHex(), "00000000000000000000000000000000");
  for (uint8_t i = 0; i < 16; ++i) key.bytes[i] = static_cast<uint8_t>(0xf0 + i);
  EXPECT_EQ(key.ToHex(), "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
  EXPECT_EQ(key.low(), 0xf7f6f5f4f3f2f1f0u);
  EXPECT_EQ(key.high(), 0xfffefdfcfbfaf9f8u);
  EXPECT_FALSE(key.is_zero());
}

}  // namespace
}  // namespace kvtier::wire
