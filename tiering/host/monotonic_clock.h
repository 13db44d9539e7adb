// The real clock.
#pragma once

#include <chrono>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tiering/base/clock.h"

namespace kvtier {

// Wall time at construction plus what the machine's monotonic clock has counted since: readable in
// logs, and unmoved when somebody sets the wall clock. Thread-safe.
class MonotonicClock : public Clock {
 public:
  absl::Time Now() override {
    return wall_start_ + absl::FromChrono(std::chrono::steady_clock::now() - steady_start_);
  }

 private:
  const absl::Time wall_start_ = absl::Now();
  const std::chrono::steady_clock::time_point steady_start_ = std::chrono::steady_clock::now();
};

}  // namespace kvtier
