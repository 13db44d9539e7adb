// The memory that a client shares with one daemon process: the tenant's index, the client's page,
// and segments as they are needed.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/mapping.h"
#include "client/memory_channel.h"
#include "client/section_places.h"
#include "client/segment_map.h"
#include "client/verified_copies.h"
#include "proto/wire/client_page.h"
#include "proto/wire/index_reader.h"
#include "proto/wire/report_ring.h"

namespace kvtier {

// Thread-safe. Stays mapped when the daemon ends, so that what was resolved before stays readable.
// With its end, and that of whatever it retired, the daemon is told that nothing is read any more.
class TenantMemory {
 public:
  struct Options {
    std::string socket;  // AttachReply.shared_memory_socket
    uint64_t session_id = 0;
    uint64_t daemon_epoch = 0;
    absl::Duration timeout;
    uint64_t verified_blocks_max = 0;
    SectionPlaces* places = nullptr;  // outlives it
  };
  // Errors: as MemoryChannel::Connect; FAILED_PRECONDITION names another layout of the index.
  static absl::StatusOr<std::shared_ptr<TenantMemory>> Attach(const Options& options);
  // Over memory that is there already, as a test makes it.
  struct Parts {
    std::shared_ptr<MemoryChannel> channel;  // may be null: nothing more can be mapped
    Mapping index;
    Mapping client_page;
  };
  static absl::StatusOr<std::shared_ptr<TenantMemory>> Over(Parts parts, const Options& options);

  const wire::IndexReader& index() const { return index_; }
  wire::ClientPage& page() const {
    return *reinterpret_cast<wire::ClientPage*>(parts_.client_page.data());
  }
  SegmentMap& segments() { return *segments_; }
  VerifiedCopies& verified() { return verified_; }

  // Call every now and then: see MemoryChannel::Keep and SegmentMap::UnmapOver.
  void Keep() {
    if (parts_.channel == nullptr) return;
    parts_.channel->Keep();
    segments_->UnmapOver(kAskedPerKeep, kPatience);
  }

  // Writes reports to the ring; what does not fit is dropped and counted there. `wait` false: all
  // are dropped, and counted, where another thread is writing.
  void Report(absl::Span<const wire::Report> reports, bool wait) ABSL_LOCKS_EXCLUDED(mutex_);

  // The daemon is gone: no section is entered any more.
  void MarkLost() { lost_.store(true, std::memory_order_release); }
  bool lost() const { return lost_.load(std::memory_order_acquire); }

 private:
  // A few heartbeats ask about all that a client usually has. Where the daemon takes longer to
  // answer, they do not wait for it.
  static constexpr size_t kAskedPerKeep = 16;
  static constexpr absl::Duration kPatience = absl::Milliseconds(5);

  TenantMemory(Parts parts, wire::IndexReader index, std::unique_ptr<SegmentMap> segments,
               VerifiedCopies verified);

  const Parts parts_;
  const wire::IndexReader index_;
  const std::unique_ptr<SegmentMap> segments_;
  VerifiedCopies verified_;
  std::atomic<bool> lost_{false};

  absl::Mutex mutex_;
  wire::ReportProducer reports_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvtier
