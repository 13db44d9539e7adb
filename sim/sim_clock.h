// A clock that stands still until it is told to move.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "tiering/base/check.h"
#include "tiering/base/clock.h"

namespace kvtier::sim {

// Nanoseconds since a SimClock began.
using SimTime = int64_t;

// Thread-safe. Starts at the Unix epoch plus one second, so that no test depends on real time and a
// zero time is recognisably unset. Resolution: a nanosecond.
class SimClock : public Clock {
 public:
  static constexpr int64_t kBeginNs = 1'000'000'000;

  absl::Time Now() override { return absl::FromUnixNanos(now_ns_.load(std::memory_order_acquire)); }

  // Nanoseconds since it began.
  int64_t elapsed_ns() const { return now_ns_.load(std::memory_order_acquire) - kBeginNs; }

  // `step` must not be negative.
  void Advance(absl::Duration step) {
    KVTIER_CHECK(step >= absl::ZeroDuration());
    now_ns_.fetch_add(absl::ToInt64Nanoseconds(step), std::memory_order_acq_rel);
  }

 private:
  std::atomic<int64_t> now_ns_{kBeginNs};
};

inline SimTime SimTimeOf(absl::Time time) { return absl::ToUnixNanos(time) - SimClock::kBeginNs; }

}  // namespace kvtier::sim
