#pragma once

// Writes safetensors files, good and damaged, for tests.

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace kvtier::examples {

struct TestTensor {
  std::string dtype;
  std::vector<size_t> shape;
  std::string bytes;
};

inline std::string LittleEndian64(uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
  return bytes;
}

inline std::string WithHeader(const std::string& header, const std::string& data) {
  return LittleEndian64(header.size()) + header + data;
}

inline std::string WriteSafetensors(const std::map<std::string, TestTensor>& tensors) {
  std::vector<std::string> entries = {R"("__metadata__":{"format":"pt"})"};
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    entries.push_back(absl::StrCat("\"", name, "\":{\"dtype\":\"", tensor.dtype, "\",\"shape\":[",
                                   absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[",
                                   data.size(), ",", data.size() + tensor.bytes.size(), "]}"));
    data += tensor.bytes;
  }
  return WithHeader(absl::StrCat("{", absl::StrJoin(entries, ","), "}"), data);
}

inline std::string FloatBytes(const std::vector<float>& floats) {
  return std::string(reinterpret_cast<const char*>(floats.data()), floats.size() * sizeof(float));
}

}  // namespace kvtier::examples
