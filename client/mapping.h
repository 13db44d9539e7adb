// Memory of another process's descriptor, mapped into this one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"

namespace kvtier {

// Unmapped with its owner. Children that are forked do not have it. The descriptor can be closed
// once it is mapped.
class Mapping {
 public:
  enum class Access : uint8_t { kRead, kWrite };

  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  // Maps `bytes` bytes from the start of `fd`. OUT_OF_RANGE when there are not so many: touching
  // what is beyond would end the process. `populate`: all of its pages now, so that touching them
  // later takes no fault.
  static absl::StatusOr<Mapping> Map(int fd, uint64_t bytes, Access access, bool populate);
  // Memory of this process's own, zeroes, that takes room once it is touched.
  static absl::StatusOr<Mapping> Anonymous(uint64_t bytes);

  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace kvtier
