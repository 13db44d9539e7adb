#include "proto/wire/chunk_key.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "proto/wire/version.h"

namespace kvtier::wire {
namespace {

enum class Form : uint8_t { kTokens = 1, kOpaque = 2 };

// SHA-256 over a sequence of fields. OpenSSL fails here only when memory is gone, which nothing survives.
class FieldHasher {
 public:
  FieldHasher() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    if (context_ == nullptr || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) std::abort();
  }
  void Raw(const void* data, size_t bytes) {
    if (EVP_DigestUpdate(context_.get(), data, bytes) != 1) std::abort();
  }
  void U32(uint32_t value) {
    const uint8_t little[4] = {static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8),
                               static_cast<uint8_t>(value >> 16), static_cast<uint8_t>(value >> 24)};
    Raw(little, sizeof(little));
  }
  void Sized(std::string_view text) {
    U32(static_cast<uint32_t>(text.size()));
    Raw(text.data(), text.size());
  }
  ChunkKey Finish() {
    std::array<uint8_t, 32> digest{};
    if (EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) != 1) std::abort();
    ChunkKey key;
    std::copy_n(digest.begin(), key.bytes.size(), key.bytes.begin());
    return key;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
};

void Begin(FieldHasher& hasher, Form form, const KeyScope& scope, const ChunkKey& parent) {
  static constexpr std::string_view kDomain = "kvtier.chunk";
  hasher.Raw(kDomain.data(), kDomain.size());
  hasher.U32(kChunkKeyVersion);
  const auto form_byte = static_cast<uint8_t>(form);
  hasher.Raw(&form_byte, 1);
  hasher.Sized(scope.tenant_salt);
  hasher.Raw(scope.fingerprint.data(), scope.fingerprint.size());
  hasher.Raw(parent.bytes.data(), parent.bytes.size());
}

}  // namespace

std::string ChunkKey::ToHex() const {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

ChunkKey TokenChunkKey(const KeyScope& scope, const ChunkKey& parent, absl::Span<const uint32_t> tokens,
                       std::string_view extra) {
  FieldHasher hasher;
  Begin(hasher, Form::kTokens, scope, parent);
  hasher.U32(static_cast<uint32_t>(tokens.size()));
  for (const uint32_t token : tokens) hasher.U32(token);
  hasher.Sized(extra);
  return hasher.Finish();
}

ChunkKey OpaqueChunkKey(const KeyScope& scope, const ChunkKey& parent, std::string_view engine_key,
                        std::string_view extra) {
  FieldHasher hasher;
  Begin(hasher, Form::kOpaque, scope, parent);
  hasher.Sized(engine_key);
  hasher.Sized(extra);
  return hasher.Finish();
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
