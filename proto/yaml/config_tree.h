// A parsed YAML document as a plain tree that remembers its lines.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvtier {

struct ConfigNode {
  enum class Kind : uint8_t { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  int line = 0;         // 1-based; 0: not from a file
  bool quoted = false;  // a scalar in quotes is text, never a number
  std::string scalar;
  std::vector<ConfigNode> children;  // of a list, or the values of a map
  std::vector<std::string> keys;     // of a map, beside `children`
  std::vector<int> key_lines;
};

// What a document may be at most; beyond is INVALID_ARGUMENT.
inline constexpr size_t kConfigBytesMax = 1 << 20;
inline constexpr size_t kConfigDepthMax = 16;
inline constexpr size_t kConfigNodesMax = 65'536;

// One YAML document in UTF-8, without aliases (they could stand for far more than is written). An
// empty document is a null node. INVALID_ARGUMENT "name:line: path: ..." for anything else. Never
// throws.
absl::StatusOr<ConfigNode> ParseConfigTree(absl::string_view yaml, absl::string_view name);
// The same for the value of one field, which is on no line. INVALID_ARGUMENT "name: path: ...".
absl::StatusOr<ConfigNode> ParseConfigValue(absl::string_view yaml, absl::string_view name,
                                            absl::string_view path);

// Where errors say that something stands: "name:line", or "name" without a line.
std::string ConfigOrigin(absl::string_view name, int line);

}  // namespace kvtier
