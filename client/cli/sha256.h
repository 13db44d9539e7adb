// SHA-256 of a file that is read in parts.
#pragma once

#include <openssl/evp.h>

#include <cstddef>
#include <memory>
#include <string>

#include "absl/strings/escaping.h"
#include "tiering/base/check.h"

namespace kvtier::cli {

// Not thread-safe.
class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    KVTIER_CHECK(context_ != nullptr);
    KVTIER_CHECK(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }
  void Add(const void* data, size_t bytes) {
    KVTIER_CHECK(EVP_DigestUpdate(context_.get(), data, bytes) == 1);
  }
  // 64 hexadecimal digits. Call once, after the last Add.
  std::string Finish() {
    unsigned char digest[32];
    KVTIER_CHECK(EVP_DigestFinal_ex(context_.get(), digest, nullptr) == 1);
    return absl::BytesToHexString({reinterpret_cast<const char*>(digest), sizeof(digest)});
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace kvtier::cli
