// SHA-256 over a sequence of fields, the one place that knows the hash library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace kvtier::wire {

using Sha256Digest = std::array<uint8_t, 32>;

// Integers are hashed little-endian. Not thread-safe; one digest an object. The library fails here
// only when memory is gone, and then the process ends.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Raw(const void* data, size_t bytes);
  void U32(uint32_t value);
  void U64(uint64_t value);
  Sha256Digest Finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace kvtier::wire
