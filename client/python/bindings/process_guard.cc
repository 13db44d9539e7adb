#include "client/python/bindings/process_guard.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/status/status.h"
#include "client/python/bindings/errors.h"

namespace kvtier::python {
namespace {

constexpr std::chrono::seconds kEndSecondsMax{5};

std::atomic<bool> forked{false};
bool ending = false;  // guarded by the GIL

// Never destroyed: threads may still come by while the process ends.
struct Calls {
  std::mutex mutex;
  std::condition_variable changed;
  int running = 0;
};
Calls& RunningCalls() {
  static Calls& calls = *new Calls;
  return calls;
}

}  // namespace

void CheckProcess() {
  if (Forked()) {
    ThrowStatus(absl::FailedPreconditionError(
        "this process was forked from one that had a kvtier client, and clients do not survive a "
        "fork: connect after the fork, or start processes with multiprocessing's \"spawn\""));
  }
  if (ending) ThrowStatus(absl::CancelledError("the interpreter is ending"));
}

bool Forked() { return forked.load(std::memory_order_relaxed); }

void NoticeForks() {
  static const int registered = ::pthread_atfork(nullptr, nullptr, [] { forked = true; });
  if (registered != 0) {
    ThrowStatus(absl::ResourceExhaustedError("pthread_atfork failed: no memory for its handler"));
  }
}

void EndCalls() {
  ending = true;
  if (Forked()) return;
  const pybind11::gil_scoped_release release;
  Calls& calls = RunningCalls();
  std::unique_lock lock(calls.mutex);
  calls.changed.wait_for(lock, kEndSecondsMax, [&] { return calls.running == 0; });
}

ReleasedGil::ReleasedGil() {
  {
    const std::lock_guard lock(RunningCalls().mutex);
    ++RunningCalls().running;
  }
  state_ = PyEval_SaveThread();
}

ReleasedGil::~ReleasedGil() {
  PyEval_RestoreThread(state_);
  const std::lock_guard lock(RunningCalls().mutex);
  if (--RunningCalls().running == 0) RunningCalls().changed.notify_all();
}

}  // namespace kvtier::python
