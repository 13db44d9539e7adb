// Runs the core's parallel work on threads of its own.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "tiering/base/executor.h"

namespace kvtier {

// Lane 0 is the caller's thread, the others wait in between. One caller at a time. Work must not
// throw.
class ThreadExecutor : public Executor {
 public:
  // `lanes` 1 or more; 0: as many as the machine has processors.
  explicit ThreadExecutor(size_t lanes);
  ~ThreadExecutor() override;
  ThreadExecutor(const ThreadExecutor&) = delete;
  ThreadExecutor& operator=(const ThreadExecutor&) = delete;

  size_t lanes() const override { return threads_.size() + 1; }
  void Run(size_t items, const std::function<void(size_t item, size_t lane)>& work) override;

 private:
  void Loop(size_t lane);
  void TakeItems(size_t lane);

  std::mutex mutex_;
  std::condition_variable begun_;
  std::condition_variable ended_;
  // Guarded by mutex_.
  const std::function<void(size_t, size_t)>* work_ = nullptr;
  size_t items_ = 0;
  size_t next_ = 0;     // first item that nobody took
  size_t busy_ = 0;     // lanes that may still take or run one
  uint64_t round_ = 0;  // calls of Run
  bool stopping_ = false;

  std::vector<std::thread> threads_;  // lanes 1 and on
};

}  // namespace kvtier
