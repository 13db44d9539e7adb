#include "daemon/scrubber.h"

#include "daemon/copy_check.h"
#include "tiering/base/check.h"

namespace kvtier {

Scrubber::Scrubber(Options options) : options_(options) {
  KVTIER_CHECK(options_.host != nullptr && options_.bytes_per_second > Bytes(0));
  thread_ = std::thread([this] { Run(); });
}

Scrubber::~Scrubber() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  thread_.join();
}

bool Scrubber::Wait(std::chrono::nanoseconds time) {
  const auto deadline = std::chrono::steady_clock::now() + time;
  const MutexLock lock(mutex_);
  while (!stopping_ && stopped_.wait_until(mutex_, deadline) == std::cv_status::no_timeout) {
  }
  return !stopping_;
}

std::chrono::nanoseconds Scrubber::CheckOne() {
  if (options_.host->held()) return options_.pause;
  ReadTarget target;
  bool found = false;
  const EngineSection section(*options_.host, [&](Engine& engine, absl::Time) {
    found = engine.NextToScrub(cursor_, target);
  });
  // The engine looks at some chunks only in one call, and begins anew after the last.
  if (!found) return cursor_ == 0 ? options_.pause : std::chrono::milliseconds(0);
  const int64_t bytes = CheckCopies(*options_.host, target).bytes.count();
  scrubbed_bytes_.fetch_add(static_cast<uint64_t>(bytes), std::memory_order_relaxed);
  return std::chrono::nanoseconds(static_cast<int64_t>(
      1e9 * static_cast<double>(bytes) / static_cast<double>(options_.bytes_per_second.count())));
}

void Scrubber::Run() {
  while (Wait(CheckOne())) {
  }
}

}  // namespace kvtier
