// Bytes that follow from a chunk's key, so that a reader can tell whose block it was handed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/types/span.h"
#include "kvtier/types.h"

namespace kvtier::replay {

// As fast as memory: any word depends on the whole key and on its place, and on nothing else.
class BlockPattern {
 public:
  explicit BlockPattern(const Key& key) {
    std::memcpy(&first_, key.data(), sizeof(first_));
    std::memcpy(&step_, key.data() + sizeof(first_), sizeof(step_));
    step_ |= 1;  // so that no two words of a block are the same
  }

  void Fill(absl::Span<char> bytes) const {
    uint64_t word = first_;
    size_t at = 0;
    for (; at + sizeof(word) <= bytes.size(); at += sizeof(word), word += step_)
      std::memcpy(bytes.data() + at, &word, sizeof(word));
    std::memcpy(bytes.data() + at, &word, bytes.size() - at);
  }

  // Whether they are what Fill makes.
  bool Matches(absl::Span<const char> bytes) const {
    uint64_t word = first_;
    uint64_t difference = 0;
    size_t at = 0;
    for (; at + sizeof(word) <= bytes.size(); at += sizeof(word), word += step_) {
      uint64_t found;
      std::memcpy(&found, bytes.data() + at, sizeof(found));
      difference |= found ^ word;
    }
    return difference == 0 && std::memcmp(bytes.data() + at, &word, bytes.size() - at) == 0;
  }

 private:
  uint64_t first_ = 0;
  uint64_t step_ = 0;
};

}  // namespace kvtier::replay
