// Proves the bounds and the order of the completion queue: tickets_max, the eventfd readable
// exactly while something can be polled, Wait and Poll not taking each other's tickets, Shutdown
// completing everything. No daemon needed; the last test drives a whole client from four threads
// against the fake daemon.
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
#include "tests/unit/client/client_fixture.h"

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

using ManyThreadsTest = ClientTest;

TEST_F(ManyThreadsTest, FourThreadsShareAClient) {
  Attach();
  auto model = client_->RegisterModel(Geometry());
  ASSERT_TRUE(model.ok());
  const std::vector<Key> keys = Store(*model, 4);
  std::atomic<int> good{0};
  constexpr int kRounds = 50;
  const auto work = [&](int thread) {
    std::string bytes(600, 'x');
    for (int round = 0; round < kRounds; ++round) {
      // Half of the threads submit and wait, the others block.
      absl::StatusOr<Match> match = absl::UnknownError("not called");
      LookupRequest lookup{.model = *model, .keys = keys};
      if (thread % 2 == 0) {
        match = client_->Lookup(lookup);
      } else {
        auto ticket = client_->SubmitLookup(lookup);
        ASSERT_TRUE(ticket.ok()) << ticket.status();
        auto completion = client_->Wait(*ticket);
        ASSERT_TRUE(completion.ok() && completion->status.ok());
        match = std::get<Match>(completion->value);
      }
      ASSERT_TRUE(match.ok()) << match.status();
      const uint32_t chunk = static_cast<uint32_t>(thread + round) % 4;
      GetRequest get{.model = *model, .lease = match->lease};
      get.blocks.push_back({.chunk = chunk, .plane = 1, .pieces = {{bytes.data(), 600}}});
      auto result = client_->Get(get);
      ASSERT_TRUE(result.ok() && result->all_ok);
      ASSERT_EQ(bytes, Bytes(chunk, 1));
      ASSERT_TRUE(client_->Release(match->lease).ok());
      ++good;
    }
  };
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) threads.emplace_back(work, thread);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good.load(), 4 * kRounds);
}

}  // namespace
}  // namespace kvtier::testing
