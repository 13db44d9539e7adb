// The daemon's events as an iterator: a thread receives them, whoever wants one takes it.
#pragma once

#include <pybind11/pybind11.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/status/status.h"
#include "kvtier/client.h"

namespace kvtier::python {

// Methods are called with the GIL; the thread never takes it.
class WatchStream {
 public:
  // Events that wait to be taken; a daemon whose client takes none is told to hold back.
  static constexpr size_t kEventsMax = 1024;

  WatchStream(std::shared_ptr<Client> client, uint64_t after_sequence);
  ~WatchStream();  // Close()
  WatchStream(const WatchStream&) = delete;
  WatchStream& operator=(const WatchStream&) = delete;

  // (sequence, kind, key, plane, pool) of the next event, or None when none came within `timeout`
  // seconds. Ends with StopIteration after Close(), with the watch's error once all events that
  // came before it are taken. Signals are handled while it waits.
  pybind11::object Next(double timeout);
  void Close();

 private:
  void Run(uint64_t after_sequence);
  // Waits for an event or the end; true if there is one. Without the GIL.
  bool WaitFor(double seconds);

  std::shared_ptr<Client> client_;
  WatchStop stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<WatchEvent> events_;  // guarded by mutex_, as are the two below
  bool closed_ = false;
  bool ended_ = false;
  absl::Status status_{};
  std::thread thread_;
};

}  // namespace kvtier::python
