// A question that stops work after so many times it was asked.
#pragma once

#include <atomic>
#include <cstdint>

#include "tiering/base/stop_check.h"

namespace kvtier::test_support {

// Any thread may ask, several at once.
class StopAfter {
 public:
  explicit StopAfter(uint64_t questions) : questions_(questions) {}
  // Refers to this.
  StopCheck Check() {
    return [this] { return asked_.fetch_add(1) >= questions_; };
  }
  uint64_t asked() const { return asked_; }

 private:
  const uint64_t questions_;
  std::atomic<uint64_t> asked_{0};
};

}  // namespace kvtier::test_support
