// Submitted operations: run by a few threads, completed through one queue with an eventfd.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "kvtier/client.h"

namespace kvtier {

// Thread-safe. A ticket is submitted, runs, is completed, and is taken once: by Poll() or by
// Wait(). Between Submit and being taken it counts towards `tickets_max`, so neither operations nor
// completions pile up.
class TicketQueue {
 public:
  // Runs on one of the queue's threads and fills the completion's status and value.
  using Operation = std::function<void(Completion&)>;

  // RESOURCE_EXHAUSTED: no eventfd to be had. INVALID_ARGUMENT: tickets_max is 0.
  static absl::StatusOr<std::unique_ptr<TicketQueue>> Create(uint32_t tickets_max);
  ~TicketQueue();  // Shutdown()
  TicketQueue(const TicketQueue&) = delete;
  TicketQueue& operator=(const TicketQueue&) = delete;

  // RESOURCE_EXHAUSTED at tickets_max; CANCELLED after Shutdown().
  absl::StatusOr<Ticket> Submit(Operation operation) ABSL_LOCKS_EXCLUDED(mutex_);
  // Completions in the order in which they came; those that somebody waits for are left to him.
  std::vector<Completion> Poll(size_t completions_max) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<Completion> Wait(Ticket ticket, absl::Duration timeout)
      ABSL_LOCKS_EXCLUDED(mutex_);
  int event_fd() const { return event_fd_; }

  // Operations that did not start complete with CANCELLED; waits for those that run (whoever calls
  // cancels what they wait for first) and ends the threads.
  void Shutdown() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Entry {
    Operation operation;
    Completion completion;
    bool done = false;
    bool queued = false;  // in ready_, at `position`
    uint32_t waiters = 0;
    std::list<Ticket>::iterator position;
  };

  TicketQueue(uint32_t tickets_max, int event_fd);
  void Run();
  void Complete(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Enqueue(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Dequeue(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint32_t tickets_max_;
  const int event_fd_;
  std::vector<std::thread> threads_;

  absl::Mutex mutex_;
  absl::flat_hash_map<Ticket, std::unique_ptr<Entry>> entries_ ABSL_GUARDED_BY(mutex_);
  std::deque<Ticket> waiting_ ABSL_GUARDED_BY(mutex_);  // submitted, not started
  std::list<Ticket> ready_ ABSL_GUARDED_BY(mutex_);     // completed, nobody waits for them
  Ticket next_ ABSL_GUARDED_BY(mutex_) = 1;
  bool shutdown_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kvtier
