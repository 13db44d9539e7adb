// Takes integers out of bytes that may be anything.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace kvtier::bound {

static_assert(std::endian::native == std::endian::little, "files are read as they lie in memory");

// Reads front to back. The first failure stays, and everything read from then on is zero or empty,
// so that it needs to be looked at only before a value is used. Not thread-safe.
class ByteCursor {
 public:
  explicit ByteCursor(std::string_view bytes) : bytes_(bytes) {}

  const absl::Status& status() const { return status_; }
  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }

  template <typename T>
  T Take(const char* what) {
    T value{};
    if (Has(1, sizeof(T), what)) {
      std::memcpy(&value, bytes_.data() + position_, sizeof(T));
      position_ += sizeof(T);
    }
    return value;
  }

  std::string TakeText(size_t length, const char* what) {
    if (!Has(length, 1, what)) return {};
    std::string text(bytes_.substr(position_, length));
    position_ += length;
    return text;
  }

  // Allocates only what the bytes that are there justify.
  template <typename T>
  std::vector<T> TakeArray(uint64_t count, const char* what) {
    if (count == 0 || !Has(count, sizeof(T), what)) return {};
    std::vector<T> values(count);
    std::memcpy(values.data(), bytes_.data() + position_, count * sizeof(T));
    position_ += count * sizeof(T);
    return values;
  }

  // Whether `count` things of at least `bytes` each can follow.
  bool Has(uint64_t count, size_t bytes, const char* what) {
    if (!status_.ok()) return false;
    if (count <= left() / bytes) return true;
    Fail(absl::StrFormat("%d of %s cannot be in the %d bytes that are left: cut off or damaged",
                         count, what, left()));
    return false;
  }

  void Fail(std::string_view why) {
    if (status_.ok())
      status_ = absl::InvalidArgumentError(absl::StrFormat("at byte %d: %s", position_, why));
  }

 private:
  std::string_view bytes_;
  size_t position_ = 0;
  absl::Status status_;
};

}  // namespace kvtier::bound
