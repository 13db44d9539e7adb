// Whether the daemon takes new work, and whether it is to end.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "tiering/base/mutex.h"

namespace kvtier {

// Thread-safe. Draining cannot be undone; a stop follows it or an operator ends the process.
class DrainState {
 public:
  void BeginDrain() { draining_ = true; }
  bool draining() const { return draining_; }
  // UNAVAILABLE while draining.
  absl::Status CheckAccepting() const {
    return draining_ ? absl::UnavailableError("the daemon is draining and takes no new work")
                     : absl::OkStatus();
  }

  // Whether leases and reservations have their time to end before the process does.
  enum class Stop : uint8_t { kWhenDrained, kNow };
  // Asks the process to end; the owner waits for it. The first request counts.
  void RequestStop(Stop stop) {
    BeginDrain();
    {
      const MutexLock lock(mutex_);
      if (!stop_) stop_ = stop;
    }
    requested_.notify_all();
  }
  Stop AwaitStopRequest() {
    const MutexLock lock(mutex_);
    while (!stop_) requested_.wait(mutex_);
    return *stop_;
  }

 private:
  std::atomic<bool> draining_{false};
  Mutex mutex_;
  CondVar requested_;
  std::optional<Stop> stop_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvtier
