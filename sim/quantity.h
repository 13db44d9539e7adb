// Numbers with units as people write them in machine files and overrides: "64GiB", "3.35TB/s".
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvtier::sim {

enum class Unit : uint8_t {
  kNone,            // "32"
  kBytes,           // "64GiB", "80GB", "512"
  kCapacity,        // the same, but what is below 1 MiB has to have a unit: "256" is a slip
  kBytesPerSecond,  // "450GB/s", "63.02GB/s"
  kFlopsPerSecond,  // "989.5TFLOP/s"
  kTime,            // in nanoseconds: "500ns", "2us", "1ms"
};

// A decimal number, a prefix (k, M, G, T, P, or Ki to Pi) and the unit; fractions of a whole unit
// are rounded up. INVALID_ARGUMENT "is \"TEXT\"; ... from MIN to MAX is needed", and which units
// there are where that may be what is wrong: the caller says what is.
absl::StatusOr<uint64_t> ParseQuantity(absl::string_view text, Unit unit, uint64_t min,
                                       uint64_t max);

}  // namespace kvtier::sim
