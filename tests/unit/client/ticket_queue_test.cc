// Proves the bounds and the order of the completion queue: tickets_max, the eventfd readable
// exactly while something can be polled, Wait and Poll not taking each other's tickets, Shutdown
// completing everything. No daemon needed.
#include "client/ticket_queue.h"

#include <poll.h>

#include <atomic>
#include <future>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvtier::testing {
namespace {

bool Readable(int fd, int timeout_ms) {
  pollfd poll_fd{fd, POLLIN, 0};
  return ::poll(&poll_fd, 1, timeout_ms) == 1;
}

std::unique_ptr<TicketQueue> MakeQueue(uint32_t tickets_max) {
  auto queue = TicketQueue::Create(tickets_max);
  EXPECT_TRUE(queue.ok()) << queue.status();
  return *std::move(queue);
}

void Succeed(Completion& completion) { completion.value = uint32_t{1}; }

TEST(TicketQueueTest, EventFdIsReadableWhileCompletionsWait) {
  auto queue = MakeQueue(8);
  EXPECT_FALSE(Readable(queue->event_fd(), 0));
  std::set<Ticket> submitted;
  for (int i = 0; i < 3; ++i) {
    auto ticket = queue->Submit(Succeed);
    ASSERT_TRUE(ticket.ok());
    submitted.insert(*ticket);
  }
  std::set<Ticket> polled;
  while (polled.size() < 3) {
    ASSERT_TRUE(Readable(queue->event_fd(), 10'000));
    for (const Completion& completion : queue->Poll(1)) {
      EXPECT_TRUE(completion.status.ok());
      EXPECT_EQ(std::get<uint32_t>(completion.value), 1u);
      polled.insert(completion.ticket);
    }
  }
  EXPECT_EQ(polled, submitted);
  EXPECT_FALSE(Readable(queue->event_fd(), 0));
  EXPECT_TRUE(queue->Poll(64).empty());
}

TEST(TicketQueueTest, TicketsCountUntilTheyAreTaken) {
  auto queue = MakeQueue(2);
  absl::Notification go;
  const auto wait = [&go](Completion&) { go.WaitForNotification(); };
  auto first = queue->Submit(wait);
  auto second = queue->Submit(wait);
  ASSERT_TRUE(first.ok() && second.ok());
  const absl::Status status = queue->Submit(wait).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("2"));
  go.Notify();
  EXPECT_TRUE(queue->Wait(*first, absl::Seconds(10)).ok());
  EXPECT_TRUE(queue->Submit(wait).ok());
  // Completed but not taken still counts.
  ASSERT_TRUE(Readable(queue->event_fd(), 10'000));
  EXPECT_EQ(queue->Submit(wait).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(TicketQueueTest, WaitTakesItsTicketOnceAndPollLeavesItAlone) {
  auto queue = MakeQueue(8);
  absl::Notification go;
  auto ticket = queue->Submit([&go](Completion& completion) {
    go.WaitForNotification();
    completion.status = absl::AbortedError("as asked");
  });
  ASSERT_TRUE(ticket.ok());
  EXPECT_EQ(queue->Wait(*ticket, absl::Milliseconds(1)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  absl::Notification waiting;
  std::future<absl::StatusOr<Completion>> waiter = std::async(std::launch::async, [&] {
    waiting.Notify();
    return queue->Wait(*ticket, absl::Seconds(10));
  });
  waiting.WaitForNotification();
  go.Notify();
  auto completion = waiter.get();
  ASSERT_TRUE(completion.ok()) << completion.status();
  EXPECT_EQ(completion->ticket, *ticket);
  EXPECT_EQ(completion->status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(queue->Wait(*ticket, absl::ZeroDuration()).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_TRUE(queue->Poll(64).empty());
}

TEST(TicketQueueTest, WaitTakesACompletionThatIsReadyAndClearsTheEvent) {
  auto queue = MakeQueue(8);
  auto ticket = queue->Submit(Succeed);
  ASSERT_TRUE(ticket.ok());
  ASSERT_TRUE(Readable(queue->event_fd(), 10'000));
  EXPECT_TRUE(queue->Wait(*ticket, absl::ZeroDuration()).ok());
  EXPECT_FALSE(Readable(queue->event_fd(), 0));
}

TEST(TicketQueueTest, ShutdownCancelsWhatDidNotStart) {
  auto queue = MakeQueue(64);
  absl::Notification go;
  std::atomic<int> ran{0};
  std::vector<Ticket> tickets;
  for (int i = 0; i < 64; ++i) {
    auto ticket = queue->Submit([&](Completion&) {
      ++ran;
      go.WaitForNotification();
    });
    ASSERT_TRUE(ticket.ok());
    tickets.push_back(*ticket);
  }
  std::thread notifier([&] { go.Notify(); });
  queue->Shutdown();
  notifier.join();
  int cancelled = 0;
  for (const Completion& completion : queue->Poll(64)) {
    cancelled += absl::IsCancelled(completion.status) ? 1 : 0;
  }
  EXPECT_EQ(cancelled + ran.load(), 64);
  EXPECT_EQ(queue->Submit(Succeed).status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace kvtier::testing
