// Runs the same work on many items, on threads that somebody else owns.
#pragma once

#include <cstddef>
#include <functional>

namespace kvtier {

// The core is deterministic, so what it computes must not depend on `lanes()` or on the order of
// the calls: items write to places of their own, and sums over them are made in item order or of
// integers.
class Executor {
 public:
  virtual ~Executor() = default;
  // How many calls may run at once; 1 or more.
  virtual size_t lanes() const = 0;
  // Calls `work(item, lane)` once for each item in [0, items); calls with one lane, in [0,
  // lanes()), never overlap. Returns when all have ended. Not reentrant.
  virtual void Run(size_t items, const std::function<void(size_t item, size_t lane)>& work) = 0;
  // Whether items were skipped, of the last Run or of one before: then what was made of it is of no
  // use (stoppable_executor.h). Never, but where work may be stopped.
  virtual bool stopped() const { return false; }
};

// Everything on the caller's thread, in order.
class InlineExecutor : public Executor {
 public:
  size_t lanes() const override { return 1; }
  void Run(size_t items, const std::function<void(size_t item, size_t lane)>& work) override {
    for (size_t item = 0; item < items; ++item) work(item, 0);
  }
};

}  // namespace kvtier
