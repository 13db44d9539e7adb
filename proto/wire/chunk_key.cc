#include "proto/wire/chunk_key.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "proto/wire/sha256.h"
#include "proto/wire/version.h"

namespace kvtier::wire {
namespace {

enum class Form : uint8_t { kTokens = 1, kOpaque = 2 };

void Sized(Sha256& hasher, std::string_view text) {
  hasher.U32(static_cast<uint32_t>(text.size()));
  hasher.Raw(text.data(), text.size());
}

ChunkKey Finish(Sha256& hasher) {
  const Sha256Digest digest = hasher.Finish();
  ChunkKey key;
  std::copy_n(digest.begin(), key.bytes.size(), key.bytes.begin());
  return key;
}

void Begin(Sha256& hasher, Form form, const KeyScope& scope, const ChunkKey& parent) {
  static constexpr std::string_view kDomain = "kvtier.chunk";
  hasher.Raw(kDomain.data(), kDomain.size());
  hasher.U32(kChunkKeyVersion);
  const auto form_byte = static_cast<uint8_t>(form);
  hasher.Raw(&form_byte, 1);
  Sized(hasher, scope.tenant_salt);
  hasher.Raw(scope.fingerprint.data(), scope.fingerprint.size());
  hasher.Raw(parent.bytes.data(), parent.bytes.size());
}

}  // namespace

std::string ChunkKey::ToHex() const {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

ChunkKey TokenChunkKey(const KeyScope& scope, const ChunkKey& parent,
                       absl::Span<const uint32_t> tokens, std::string_view extra) {
  Sha256 hasher;
  Begin(hasher, Form::kTokens, scope, parent);
  hasher.U32(static_cast<uint32_t>(tokens.size()));
  for (const uint32_t token : tokens) hasher.U32(token);
  Sized(hasher, extra);
  return Finish(hasher);
}

ChunkKey OpaqueChunkKey(const KeyScope& scope, const ChunkKey& parent, std::string_view engine_key,
                        std::string_view extra) {
  Sha256 hasher;
  Begin(hasher, Form::kOpaque, scope, parent);
  Sized(hasher, engine_key);
  Sized(hasher, extra);
  return Finish(hasher);
}

std::vector<ChunkKey> PrefixKeys(const KeyScope& scope, absl::Span<const uint32_t> tokens,
                                 uint32_t chunk_tokens, std::string_view extra) {
  std::vector<ChunkKey> keys;
  keys.reserve((tokens.size() + chunk_tokens - 1) / chunk_tokens);
  ChunkKey parent;
  for (size_t first = 0; first < tokens.size(); first += chunk_tokens) {
    parent = TokenChunkKey(scope, parent, tokens.subspan(first, chunk_tokens), extra);
    keys.push_back(parent);
  }
  return keys;
}

}  // namespace kvtier::wire
