// The two ends of a client's report ring (client_page.h).
#pragma once

#include <atomic>
#include <cstdint>

#include "proto/wire/client_page.h"

namespace kvtier::wire {

struct Report {
  uint64_t row = 0;  // PackRow
  uint32_t steps = 0;
  uint16_t plane = kAllPlanes;
  uint8_t log_mass = 0;
};

// Reports that the client does not write. Any thread.
inline void NoteDropped(ClientPage& page, uint64_t reports) {
  page.dropped.fetch_add(reports, std::memory_order_relaxed);
}

// The client's end; one thread at a time.
class ReportProducer {
 public:
  explicit ReportProducer(ClientPage* page) : page_(page) {}

  // False when the ring is full: the report is dropped and counted.
  bool Write(const Report& report) {
    const uint64_t number = page_->produced.load(std::memory_order_relaxed);
    if (number - page_->consumed.load(std::memory_order_acquire) >= kReportRecords) {
      NoteDropped(*page_, 1);
      return false;
    }
    ReportRecord& record = page_->reports[number % kReportRecords];
    record.row.store(report.row, std::memory_order_relaxed);
    record.read.store(PackRead(report.steps, report.plane, report.log_mass),
                      std::memory_order_relaxed);
    page_->produced.store(number + 1, std::memory_order_release);
    return true;
  }

 private:
  ClientPage* page_;
};

// The daemon's end; one thread at a time. Its position is its own: what the client writes into
// `consumed` or `produced` makes it read at most kReportRecords records of the client's nonsense.
class ReportConsumer {
 public:
  explicit ReportConsumer(ClientPage* page) : page_(page) {}

  // Takes what is there, at most `records_max`.
  template <typename Take>
  uint64_t Read(uint64_t records_max, Take take) {
    const uint64_t produced = page_->produced.load(std::memory_order_acquire);
    uint64_t left = produced - taken_;
    if (left > kReportRecords) {  // nonsense, by wrapping also: start again where it says
      taken_ = produced;
      left = 0;
    }
    uint64_t read = 0;
    for (; read < left && read < records_max; ++read, ++taken_) {
      const ReportRecord& record = page_->reports[taken_ % kReportRecords];
      const uint64_t row = record.row.load(std::memory_order_relaxed);
      const uint64_t packed = record.read.load(std::memory_order_relaxed);
      take(Report{.row = row,
                  .steps = static_cast<uint32_t>(packed >> 32),
                  .plane = static_cast<uint16_t>(packed >> 16),
                  .log_mass = static_cast<uint8_t>(packed >> 8)});
    }
    page_->consumed.store(taken_, std::memory_order_release);
    return read;
  }
  // Of the client's own counting.
  uint64_t dropped() const { return page_->dropped.load(std::memory_order_relaxed); }

 private:
  ClientPage* page_;
  uint64_t taken_ = 0;
};

}  // namespace kvtier::wire
