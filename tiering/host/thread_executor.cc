#include "tiering/host/thread_executor.h"

#include <algorithm>

namespace kvtier {

ThreadExecutor::ThreadExecutor(size_t lanes) {
  if (lanes == 0) lanes = std::max(1u, std::thread::hardware_concurrency());
  threads_.reserve(lanes - 1);
  for (size_t lane = 1; lane < lanes; ++lane) threads_.emplace_back([this, lane] { Loop(lane); });
}

ThreadExecutor::~ThreadExecutor() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  begun_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadExecutor::Run(size_t items, const std::function<void(size_t item, size_t lane)>& work) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    work_ = &work;
    items_ = items;
    next_ = 0;
    busy_ = threads_.size();
    ++round_;
  }
  begun_.notify_all();
  TakeItems(0);
  std::unique_lock<std::mutex> lock(mutex_);
  ended_.wait(lock, [this] { return busy_ == 0; });
  work_ = nullptr;
}

void ThreadExecutor::Loop(size_t lane) {
  for (uint64_t seen = 0;;) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      begun_.wait(lock, [&] { return stopping_ || round_ != seen; });
      if (stopping_) return;
      seen = round_;
    }
    TakeItems(lane);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--busy_ == 0) ended_.notify_one();
  }
}

void ThreadExecutor::TakeItems(size_t lane) {
  for (;;) {
    const std::function<void(size_t, size_t)>* work = nullptr;
    size_t item = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (next_ == items_) return;
      item = next_++;
      work = work_;
    }
    (*work)(item, lane);
  }
}

}  // namespace kvtier
