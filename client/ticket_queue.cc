#include "client/ticket_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvtier {
namespace {

// Operations mostly wait for the daemon; a few threads keep its connection busy.
constexpr int kThreads = 4;

}  // namespace

absl::StatusOr<std::unique_ptr<TicketQueue>> TicketQueue::Create(uint32_t tickets_max) {
  if (tickets_max == 0) {
    return absl::InvalidArgumentError("tickets_max is 0, it must be at least 1");
  }
  const int event_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event_fd < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot make an eventfd: ", std::strerror(errno)));
  }
  return std::unique_ptr<TicketQueue>(new TicketQueue(tickets_max, event_fd));
}

TicketQueue::TicketQueue(uint32_t tickets_max, int event_fd)
    : tickets_max_(tickets_max), event_fd_(event_fd) {
  threads_.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) threads_.emplace_back([this] { Run(); });
}

TicketQueue::~TicketQueue() {
  Shutdown();
  ::close(event_fd_);
}

absl::StatusOr<Ticket> TicketQueue::Submit(Operation operation) {
  absl::MutexLock lock(&mutex_);
  if (shutdown_) return absl::CancelledError("the kvtier client was closed");
  if (entries_.size() >= tickets_max_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        entries_.size(), " tickets were submitted and not polled, the limit is ", tickets_max_));
  }
  const Ticket ticket = next_++;
  auto entry = std::make_unique<Entry>();
  entry->operation = std::move(operation);
  entry->completion.ticket = ticket;
  entries_.emplace(ticket, std::move(entry));
  waiting_.push_back(ticket);
  return ticket;
}

std::vector<Completion> TicketQueue::Poll(size_t completions_max) {
  std::vector<Completion> completions;
  absl::MutexLock lock(&mutex_);
  while (!ready_.empty() && completions.size() < completions_max) {
    const auto found = entries_.find(ready_.front());
    Dequeue(*found->second);
    completions.push_back(std::move(found->second->completion));
    entries_.erase(found);
  }
  return completions;
}

absl::StatusOr<Completion> TicketQueue::Wait(Ticket ticket, absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  auto found = entries_.find(ticket);
  if (found == entries_.end()) {
    return absl::NotFoundError(
        absl::StrCat("no ticket ", ticket, ": it was never given or is taken"));
  }
  Entry* entry = found->second.get();
  ++entry->waiters;
  if (entry->queued) Dequeue(*entry);
  // A second thread may wait for the same ticket and take it first: then the entry is gone.
  const auto done_or_gone = [this, ticket]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto it = entries_.find(ticket);
    return it == entries_.end() || it->second->done;
  };
  const bool in_time = mutex_.AwaitWithTimeout(absl::Condition(&done_or_gone), timeout);
  found = entries_.find(ticket);
  if (found == entries_.end()) {
    return absl::NotFoundError(absl::StrCat("ticket ", ticket, " was taken by another thread"));
  }
  entry = found->second.get();
  --entry->waiters;
  if (!in_time) {
    return absl::DeadlineExceededError(absl::StrCat("ticket ", ticket, " did not complete within ",
                                                    absl::FormatDuration(timeout)));
  }
  Completion completion = std::move(entry->completion);
  entries_.erase(found);
  return completion;
}

void TicketQueue::Run() {
  absl::MutexLock lock(&mutex_);
  const auto work_or_shutdown = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return shutdown_ || !waiting_.empty();
  };
  for (;;) {
    mutex_.Await(absl::Condition(&work_or_shutdown));
    if (shutdown_) return;
    // The entry stays where it is until it is done: only completed ones are taken.
    Entry& entry = *entries_.find(waiting_.front())->second;
    waiting_.pop_front();
    const Operation operation = std::move(entry.operation);
    Completion completion;
    completion.ticket = entry.completion.ticket;
    mutex_.Unlock();
    operation(completion);
    mutex_.Lock();
    entry.completion = std::move(completion);
    Complete(entry);
  }
}

void TicketQueue::Complete(Entry& entry) {
  entry.done = true;
  if (entry.waiters == 0) Enqueue(entry);
}

void TicketQueue::Enqueue(Entry& entry) {
  entry.position = ready_.insert(ready_.end(), entry.completion.ticket);
  entry.queued = true;
  // The eventfd is readable exactly while ready_ is not empty.
  const uint64_t one = 1;
  if (ready_.size() == 1) (void)!::write(event_fd_, &one, sizeof(one));
}

void TicketQueue::Dequeue(Entry& entry) {
  ready_.erase(entry.position);
  entry.queued = false;
  uint64_t count = 0;
  if (ready_.empty()) (void)!::read(event_fd_, &count, sizeof(count));
}

void TicketQueue::Shutdown() {
  {
    absl::MutexLock lock(&mutex_);
    shutdown_ = true;
    for (const Ticket ticket : waiting_) {
      Entry& entry = *entries_.find(ticket)->second;
      entry.completion.status = absl::CancelledError("the kvtier client was closed");
      Complete(entry);
    }
    waiting_.clear();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

}  // namespace kvtier
