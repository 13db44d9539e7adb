#include "proto/wire/sha256.h"

#include <openssl/evp.h>

#include <cstdlib>

namespace kvtier::wire {

struct Sha256::Context {
  EVP_MD_CTX* evp = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(evp); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  if (context_->evp == nullptr || EVP_DigestInit_ex(context_->evp, EVP_sha256(), nullptr) != 1) {
    std::abort();
  }
}

Sha256::~Sha256() = default;

void Sha256::Raw(const void* data, size_t bytes) {
  if (EVP_DigestUpdate(context_->evp, data, bytes) != 1) std::abort();
}

void Sha256::U32(uint32_t value) {
  uint8_t little[4];
  for (int i = 0; i < 4; ++i) little[i] = static_cast<uint8_t>(value >> (8 * i));
  Raw(little, sizeof(little));
}

void Sha256::U64(uint64_t value) {
  uint8_t little[8];
  for (int i = 0; i < 8; ++i) little[i] = static_cast<uint8_t>(value >> (8 * i));
  Raw(little, sizeof(little));
}

Sha256Digest Sha256::Finish() {
  Sha256Digest digest{};
  if (EVP_DigestFinal_ex(context_->evp, digest.data(), nullptr) != 1) std::abort();
  return digest;
}

}  // namespace kvtier::wire
