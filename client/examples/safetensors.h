#pragma once

// Reader of the safetensors format: 8 bytes of header length (little-endian), a JSON header that
// names each tensor's type, shape and byte range, then the bytes.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace kvtier::examples {

enum class TensorType {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kI16,
  kU16,
  kF16,
  kBf16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64
};

const char* TensorTypeName(TensorType type);

// One tensor inside the parsed bytes, which must outlive it.
struct TensorView {
  TensorType type = TensorType::kF32;
  std::vector<size_t> shape;
  absl::Span<const uint8_t> bytes;  // little-endian elements, no particular alignment
};

// Ordered by name, so that whatever is derived from a file does not depend on hashing.
using SafetensorsFile = std::map<std::string, TensorView>;

// Limits of the header, stated so that a hostile file cannot cost much more than its own size.
inline constexpr size_t kSafetensorsHeaderBytesMax = size_t{16} << 20;
inline constexpr size_t kSafetensorsTensorsMax = 65536;
inline constexpr size_t kSafetensorsRankMax = 8;

// Parses `file` without copying tensor bytes; the views point into it. The bytes may be anything:
// INVALID_ARGUMENT names the tensor, the number and the limit when the header is cut short, too
// long or not JSON, when a name comes twice, a type is unknown, a shape overflows or disagrees with
// its byte range, or when the ranges leave the file, overlap or leave a gap. Thread-safe.
absl::StatusOr<SafetensorsFile> ParseSafetensors(absl::Span<const uint8_t> file);
absl::StatusOr<SafetensorsFile> ParseSafetensors(std::string_view file);

// The elements of `tensor` as floats. INVALID_ARGUMENT when the type is not F32, BF16 or F16, or
// the shape is not `shape`; `name` is used in messages only.
absl::StatusOr<std::vector<float>> TensorToFloats(const TensorView& tensor,
                                                  const std::vector<size_t>& shape,
                                                  std::string_view name);

}  // namespace kvtier::examples
