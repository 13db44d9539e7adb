// An array that grows a page at a time: elements keep their addresses and growth never copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tiering/base/bytes.h"

namespace kvtier {

// T is trivially destructible; new elements are value-initialised. Not thread-safe.
template <typename T, size_t kPageElements>
class PagedArray {
  static_assert((kPageElements & (kPageElements - 1)) == 0, "a page index is a shift away");

 public:
  T& operator[](size_t i) { return pages_[i / kPageElements][i % kPageElements]; }
  const T& operator[](size_t i) const { return pages_[i / kPageElements][i % kPageElements]; }
  size_t size() const { return size_; }

  // Appends `count` elements and returns the index of the first.
  size_t Grow(size_t count) {
    const size_t first = size_;
    size_ += count;
    while (pages_.size() * kPageElements < size_)
      pages_.push_back(std::make_unique<T[]>(kPageElements));
    return first;
  }
  Bytes metadata_bytes() const {
    return Bytes(static_cast<int64_t>(pages_.size() * (kPageElements * sizeof(T) + sizeof(void*))));
  }

 private:
  std::vector<std::unique_ptr<T[]>> pages_;
  size_t size_ = 0;
};

}  // namespace kvtier
