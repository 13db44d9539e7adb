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

// Set once the interpreter is ending, guarded by the GIL. It is made before, and raised many times,
// since making it runs Python code.
PyObject* ending_error = nullptr;
bool ended = false;  // guarded by the GIL

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

Call::Call() {
  if (Forked()) {
    ThrowStatus(absl::FailedPreconditionError(
        "this process was forked from one that had a kvtier client, and clients do not survive a "
        "fork: connect after the fork, or start processes with multiprocessing's \"spawn\""));
  }
  if (ending_error != nullptr) {
    // A thread that tries again and again would make it grow.
    PyException_SetTraceback(ending_error, Py_None);
    PyException_SetContext(ending_error, nullptr);
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(ending_error)), ending_error);
    throw pybind11::error_already_set();
  }
  const std::lock_guard lock(RunningCalls().mutex);
  ++RunningCalls().running;
}

Call::~Call() {
  const std::lock_guard lock(RunningCalls().mutex);
  if (--RunningCalls().running == 0) RunningCalls().changed.notify_all();
}

void EndCalls(void (*close)()) {
  if (Forked() || ending_error != nullptr) return;
  ending_error = ErrorFor(absl::CancelledError("the interpreter is ending")).release().ptr();
  close();
  {
    const pybind11::gil_scoped_release release;
    Calls& calls = RunningCalls();
    std::unique_lock lock(calls.mutex);
    calls.changed.wait_for(lock, kEndSecondsMax, [&] { return calls.running == 0; });
  }
  close();  // a client that was still connecting
  ended = true;
}

bool Forked() { return forked.load(std::memory_order_relaxed); }

void NoticeForks() {
  static const int registered = ::pthread_atfork(nullptr, nullptr, [] { forked = true; });
  if (registered != 0) {
    ThrowStatus(absl::ResourceExhaustedError("pthread_atfork failed: no memory for its handler"));
  }
}

ReleasedGil::ReleasedGil() {
  if (!ended) state_ = PyEval_SaveThread();
}

ReleasedGil::~ReleasedGil() {
  if (state_ != nullptr) PyEval_RestoreThread(state_);
}

}  // namespace kvtier::python
