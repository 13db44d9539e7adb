#include "client/python/bindings/watch_stream.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "client/python/bindings/conversions.h"
#include "client/python/bindings/errors.h"
#include "client/python/bindings/process_guard.h"

namespace py = pybind11;

namespace kvtier::python {
namespace {

// How long Ctrl-C may go unnoticed.
constexpr double kSignalSeconds = 0.1;

}  // namespace

WatchStream::WatchStream(std::shared_ptr<Client> client, uint64_t after_sequence)
    : client_(std::move(client)), thread_([this, after_sequence] { Run(after_sequence); }) {}

WatchStream::~WatchStream() {
  if (!Forked()) {
    Close();
    return;
  }
  // The thread is not there to be joined, and the client not to be destroyed.
  Leak(client_);
  Leak(thread_);
}

void WatchStream::Run(uint64_t after_sequence) {
  absl::Status status = client_->Watch(
      after_sequence,
      [this](const WatchEvent& event) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return closed_ || events_.size() < kEventsMax; });
        if (closed_) return false;
        events_.push_back(event);
        changed_.notify_all();
        return true;
      },
      &stop_);
  const std::lock_guard lock(mutex_);
  ended_ = true;
  status_ = std::move(status);
  changed_.notify_all();
}

void WatchStream::Close() {
  if (Forked()) return;
  const ReleasedGil released;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  stop_.Stop();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ended_; });
  if (thread_.joinable()) {
    std::thread thread = std::move(thread_);
    lock.unlock();
    thread.join();
  }
}

bool WatchStream::WaitFor(double seconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(seconds),
                    [this] { return closed_ || ended_ || !events_.empty(); });
  return closed_ || ended_ || !events_.empty();
}

py::object WatchStream::Next(double timeout) {
  const Call running;
  const auto began = std::chrono::steady_clock::now();
  for (;;) {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - began;
    const double left = timeout - passed.count();
    bool something = false;
    {
      const ReleasedGil released;
      something = WaitFor(std::clamp(left, 0.0, kSignalSeconds));
    }
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    std::unique_lock lock(mutex_);
    if (closed_) throw py::stop_iteration();
    if (!events_.empty()) {
      const WatchEvent event = std::move(events_.front());
      events_.pop_front();
      changed_.notify_all();
      lock.unlock();
      return py::make_tuple(event.sequence, static_cast<int>(event.kind), BytesOf(event.key),
                            event.plane, Text(event.pool));
    }
    if (ended_) {
      const absl::Status status = status_;
      lock.unlock();
      ThrowIfError(status);
      throw py::stop_iteration();
    }
    lock.unlock();
    if (!something && left <= 0) return py::none();
  }
}

}  // namespace kvtier::python
