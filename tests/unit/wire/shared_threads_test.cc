// The relocation log and the report ring with both ends at work: every record that is seen is whole
// and in its place, what is lost is said to be, and the counts add up.
//
// Each end also leaves plain memory for the other one, as bytes are left in a slot before its word
// is logged: ThreadSanitizer sees whether the log's and the ring's orders carry it over. So what
// the threads of a test tell each other beside them is relaxed.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "proto/wire/client_page.h"
#include "proto/wire/relocation_log.h"
#include "proto/wire/report_ring.h"

namespace kvtier::wire {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  return x ^ (x >> 27);
}

void AwaitAtLeast(const std::atomic<uint64_t>& count, uint64_t wanted) {
  while (count.load(kRelaxed) < wanted) std::this_thread::yield();
}

class RelocationLogThreadsTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kEntries = 4;
  static constexpr uint64_t kMoves = 200'000;
  static constexpr uint64_t kRest = 500;
  struct Outcome {
    uint64_t seen = 0, lost = 0, overruns = 0, wrong = 0;
  };

  static Relocation MoveOf(uint64_t number) {
    return {number, static_cast<uint32_t>(Mix(number)), ResidencyWord(Mix(~number))};
  }

  // Appends all moves. Rests after each kRest of them until all are behind the readers, and a ring
  // further until the first one is.
  void Write(const std::vector<std::atomic<uint64_t>>& behind) {
    RelocationWriter writer(ring_.data(), kEntries, &end_);
    for (uint64_t number = 0; number < kMoves; ++number) {
      bytes_[number] = Mix(number);
      writer.Append(MoveOf(number));
      appended_.store(number + 1, kRelaxed);
      const uint64_t burst = (number + 1) % kRest;
      for (const std::atomic<uint64_t>& reader : behind) {
        if (burst == 0) AwaitAtLeast(reader, number + 1);
        if (burst == kEntries) AwaitAtLeast(reader, number + 2 - kEntries);
      }
    }
  }

  // Reads from the beginning until all moves are behind it, seen or lost. A slow reader stays at
  // the first one after a rest until the writer has been over the second.
  Outcome Read(RelocationReader reader, bool slow, std::atomic<uint64_t>& behind) {
    Outcome outcome;
    uint64_t next = 0;     // the first move that was not seen, and is not known to be lost
    bool overrun = false;  // the one to come is later: at or after `from`
    uint64_t from = 0;
    const auto take = [&](const Relocation& relocation) {
      const uint64_t number = relocation.row;
      const Relocation expected = MoveOf(number);
      const bool in_order = overrun ? number >= std::max(from, next) : number == next;
      if (!in_order || number >= kMoves || relocation.plane != expected.plane ||
          !(relocation.word == expected.word) || bytes_[number] != Mix(number)) {
        ++outcome.wrong;
        return;
      }
      ++outcome.seen;
      outcome.lost += number - next;
      next = number + 1;
      overrun = false;
      if (slow && number % kRest == 0) {
        behind.store(next, kRelaxed);
        AwaitAtLeast(appended_, next + kEntries + 1);
      }
    };
    for (uint64_t there = 0; there < kMoves;) {
      there = end_.load(kRelaxed);
      if (!reader.Read(take)) {
        ++outcome.overruns;
        overrun = true;
        from = there;  // it is at the end, which was not before that
      } else if (!overrun && next < there) {
        ++outcome.wrong;
      }
      if (behind.load(kRelaxed) == there) std::this_thread::yield();
      behind.store(there, kRelaxed);
    }
    outcome.lost += kMoves - next;
    return outcome;
  }

  std::vector<RelocationEntry> ring_ = std::vector<RelocationEntry>(kEntries);
  std::atomic<uint64_t> end_{0}, appended_{0};
  std::vector<uint64_t> bytes_ = std::vector<uint64_t>(kMoves);
};

TEST_F(RelocationLogThreadsTest, ReadersSeeWholeMovesInOrderOrThatTheyWereOverrun) {
  constexpr int kReaders = 3;
  std::vector<Outcome> outcomes(kReaders);
  std::vector<std::atomic<uint64_t>> behind(kReaders);
  std::vector<std::thread> readers;
  const RelocationReader beginning(ring_.data(), kEntries, &end_);
  for (size_t i = 0; i < kReaders; ++i)
    readers.emplace_back([&, i] { outcomes[i] = Read(beginning, /*slow=*/i > 0, behind[i]); });
  Write(behind);
  for (std::thread& reader : readers) reader.join();
  for (size_t i = 0; i < kReaders; ++i) {
    EXPECT_EQ(outcomes[i].wrong, 0u) << "reader " << i;
    EXPECT_EQ(outcomes[i].seen + outcomes[i].lost, kMoves) << "reader " << i;
    EXPECT_GT(outcomes[i].seen, 0u) << "reader " << i;
    EXPECT_GE(outcomes[i].overruns, i > 0 ? kMoves / kRest : 0) << "reader " << i;
  }
}

TEST(ReportRingThreadsTest, TheConsumerTakesWhatTheProducerDidNotCountAsDropped) {
  constexpr uint64_t kReports = 200'000;
  const auto page = std::make_unique<ClientPage>();
  const auto report_of = [](uint64_t number) {
    return Report{.row = number,
                  .steps = static_cast<uint32_t>(Mix(number)),
                  .plane = static_cast<uint16_t>(Mix(number) >> 32),
                  .log_mass = static_cast<uint8_t>(Mix(number) >> 48)};
  };
  // By number of the report, and by number among those that fit.
  std::vector<uint64_t> sent(kReports), taken(kReports);
  std::atomic<bool> done{false};
  uint64_t fitted = 0, early = 0;
  std::thread client([&] {
    ReportProducer producer(page.get());
    for (uint64_t number = 0; number < kReports; ++number) {
      // Now and then what is in the ring has to be taken before there is more than fits.
      if (number % (3 * kReportRecords) == 0) AwaitAtLeast(page->consumed, fitted);
      sent[number] = Mix(number);
      if (!producer.Write(report_of(number))) continue;
      // Its record was another one's, which the daemon is done with.
      if (fitted >= kReportRecords) early += taken[fitted - kReportRecords] != 1;
      ++fitted;
    }
    done.store(true, std::memory_order_release);
  });

  ReportConsumer consumer(page.get());
  uint64_t read = 0, wrong = 0, next = 0;
  AwaitAtLeast(page->dropped, 1);  // the ring is full once
  for (bool last = false; !last;) {
    last = done.load(std::memory_order_acquire);
    while (consumer.Read(100, [&](const Report& report) {
      const Report expected = report_of(report.row);
      const bool right = report.row >= next && report.row < kReports &&
                         report.steps == expected.steps && report.plane == expected.plane &&
                         report.log_mass == expected.log_mass &&
                         sent[report.row] == Mix(report.row);
      wrong += !right;
      next = report.row + 1;
      taken[read++] = 1;
    }) > 0) {
    }
  }
  client.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(early, 0u);
  EXPECT_EQ(read, fitted);
  EXPECT_GE(fitted, kReports / 3);
  EXPECT_EQ(consumer.dropped(), kReports - fitted);
}

}  // namespace
}  // namespace kvtier::wire
