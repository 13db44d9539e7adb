// Whether the daemon takes new work, and whether it is to end.
#pragma once

#include <atomic>

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

  // Asks the process to end once it is drained; the owner waits for it.
  void RequestStop() {
    BeginDrain();
    {
      const MutexLock lock(mutex_);
      stop_requested_ = true;
    }
    stop_.notify_all();
  }
  void AwaitStopRequest() {
    const MutexLock lock(mutex_);
    while (!stop_requested_) stop_.wait(mutex_);
  }

 private:
  std::atomic<bool> draining_{false};
  Mutex mutex_;
  CondVar stop_;
  bool stop_requested_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kvtier
