// Verifies stored blocks in the background, so that one that went bad is found before it is read.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>

#include "daemon/engine_host.h"
#include "tiering/base/bytes.h"
#include "tiering/base/mutex.h"

namespace kvtier {

// One thread, which takes every copy in turn, as fast as it may; the counters may be read by any.
// What is bad is dropped and counted by the engine.
class Scrubber {
 public:
  struct Options {
    EngineHost* host = nullptr;  // outlives the scrubber
    Bytes bytes_per_second;      // above zero
    // Between the ends of two rounds over all blocks: where there are few, they need not be read
    // all the time.
    std::chrono::milliseconds pause{1000};
  };
  explicit Scrubber(Options options);
  ~Scrubber();
  Scrubber(const Scrubber&) = delete;
  Scrubber& operator=(const Scrubber&) = delete;

  uint64_t scrubbed_bytes() const { return scrubbed_bytes_; }

 private:
  void Run();
  // Checks the next copy; returns how long to wait before the one after.
  std::chrono::nanoseconds CheckOne();
  // False when the scrubber is to end.
  bool Wait(std::chrono::nanoseconds time);

  const Options options_;
  uint64_t cursor_ = 0;  // of the thread
  std::atomic<uint64_t> scrubbed_bytes_{0};
  Mutex mutex_;
  CondVar stopped_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace kvtier
