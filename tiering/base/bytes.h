// Byte counts and rates as types, so that a size is never mistaken for a count or an index.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "absl/strings/str_format.h"

namespace kvtier {

// A number of bytes; may be negative as a difference. Arithmetic does not check for overflow: 2^63
// bytes are beyond any machine, and edges check ranges before they build one.
class Bytes {
 public:
  constexpr Bytes() = default;
  constexpr explicit Bytes(int64_t count) : count_(count) {}

  constexpr int64_t count() const { return count_; }

  constexpr auto operator<=>(const Bytes&) const = default;
  constexpr Bytes& operator+=(Bytes other) {
    count_ += other.count_;
    return *this;
  }
  constexpr Bytes& operator-=(Bytes other) {
    count_ -= other.count_;
    return *this;
  }
  friend constexpr Bytes operator+(Bytes a, Bytes b) { return Bytes(a.count_ + b.count_); }
  friend constexpr Bytes operator-(Bytes a, Bytes b) { return Bytes(a.count_ - b.count_); }
  friend constexpr Bytes operator*(Bytes a, int64_t n) { return Bytes(a.count_ * n); }
  friend constexpr int64_t operator/(Bytes a, Bytes b) { return a.count_ / b.count_; }

 private:
  int64_t count_ = 0;
};

constexpr Bytes KiB(int64_t n) { return Bytes(n << 10); }
constexpr Bytes MiB(int64_t n) { return Bytes(n << 20); }
constexpr Bytes GiB(int64_t n) { return Bytes(n << 30); }

// Decimal bytes per second, the unit of link figures (50 GB/s is 50e9).
struct BytesPerSecond {
  double value = 0;
  constexpr auto operator<=>(const BytesPerSecond&) const = default;
};

// "64 MiB", "1.5 GiB", "300 B": the largest binary unit in which the number is at least one.
inline std::string FormatBytes(Bytes bytes) {
  const int64_t n = bytes.count();
  const int64_t magnitude = n < 0 ? -n : n;
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  if (magnitude < 1024) return absl::StrFormat("%d B", n);
  double value = static_cast<double>(n);
  int unit = -1;
  while ((value >= 1024 || value <= -1024) && unit < 3) {
    value /= 1024;
    ++unit;
  }
  return value == static_cast<double>(static_cast<int64_t>(value))
             ? absl::StrFormat("%d %s", static_cast<int64_t>(value), kUnits[unit])
             : absl::StrFormat("%.2f %s", value, kUnits[unit]);
}

}  // namespace kvtier
