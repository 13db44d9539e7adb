// The client's end of the shared-memory socket (proto/wire/attach_messages.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/wire/attach_messages.h"
#include "proto/wire/residency_word.h"

namespace kvtier {

// A descriptor that is closed with its owner.
class ScopedFd {
 public:
  ScopedFd() = default;
  explicit ScopedFd(int fd) : fd_(fd) {}
  ScopedFd(ScopedFd&& other) noexcept : fd_(other.Take()) {}
  ScopedFd& operator=(ScopedFd&& other) noexcept;
  ~ScopedFd();
  int get() const { return fd_; }

 private:
  int Take();
  int fd_ = -1;
};

// Thread-safe; one request is under way at a time. Every call returns within the timeout, and after
// one that did not get its answer, all fail with UNAVAILABLE: what comes later answers nobody.
// Descriptors are close-on-exec.
class MemoryChannel {
 public:
  struct Attached {
    ScopedFd index;
    ScopedFd client_page;
    uint64_t index_bytes = 0;
    uint64_t client_page_bytes = 0;
  };
  struct Segment {
    ScopedFd fd;
    uint64_t segment_bytes = 0;
    uint64_t slot_bytes = 0;
    std::string pool;
  };

  // Connects and says hello. UNAVAILABLE: nobody answers in time; FAILED_PRECONDITION: another
  // major version, named; else what the daemon says.
  static absl::StatusOr<std::unique_ptr<MemoryChannel>> Connect(const std::string& socket,
                                                                uint64_t session_id,
                                                                uint64_t daemon_epoch,
                                                                absl::Duration timeout,
                                                                Attached& attached);
  // The segment that the word lies in. NOT_FOUND: there is another by now.
  absl::StatusOr<Segment> RequestSegment(wire::ResidencyWord word, wire::SegmentAccess access)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The writable segment is mapped; returns once nobody else can do that any more.
  absl::Status ConfirmMapped(wire::ResidencyWord word) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  MemoryChannel(ScopedFd socket, absl::Duration timeout)
      : timeout_(timeout), socket_(std::move(socket)) {}

  // Sends `request`; `reply` gets a packet of exactly its size and type, `fds` as many descriptors
  // as came, at most `fds_max`.
  template <typename Request, typename Reply>
  absl::Status Exchange(const Request& request, Reply& reply, wire::AttachType reply_type,
                        ScopedFd* fds, int fds_max, int& fds_got)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Send(const void* packet, size_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Receive(void* packet, size_t bytes, wire::AttachType type, ScopedFd* fds,
                       int fds_max, int& fds_got) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Break(std::string why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const absl::Duration timeout_;
  absl::Mutex mutex_;
  ScopedFd socket_ ABSL_GUARDED_BY(mutex_);
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvtier
