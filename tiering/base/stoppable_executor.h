// Ends work on many items between two of them.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <utility>

#include "tiering/base/executor.h"
#include "tiering/base/stop_check.h"

namespace kvtier {

// Asks before each item whether to go on, on the lane that is to do it. Once it is to stop, items
// that have begun end, all others of this and of every later Run are skipped, and stopped() says
// so: what was made of a Run after which it does is half made, and to be thrown away. Where nothing
// stops it, it is the executor that it wraps. To ask takes as long as the question does and a
// few nanoseconds, so items should be longer.
class StoppableExecutor : public Executor {
 public:
  // `executor` must outlive it. `stop` may be empty.
  StoppableExecutor(Executor& executor, StopCheck stop)
      : executor_(executor), stop_(std::move(stop)) {}

  size_t lanes() const override { return executor_.lanes(); }
  void Run(size_t items, const std::function<void(size_t item, size_t lane)>& work) override {
    executor_.Run(items, [&](size_t item, size_t lane) {
      if (!Stops()) work(item, lane);
    });
  }
  bool stopped() const override {
    return stopped_.load(std::memory_order_relaxed) || executor_.stopped();
  }

 private:
  bool Stops() {
    if (stopped()) return true;
    if (!stop_ || !stop_()) return false;
    stopped_.store(true, std::memory_order_relaxed);
    return true;
  }

  Executor& executor_;
  const StopCheck stop_;
  std::atomic<bool> stopped_{false};
};

}  // namespace kvtier
