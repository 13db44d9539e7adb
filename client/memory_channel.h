// The client's end of the shared-memory socket (proto/wire/attach_messages.h).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
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

// Thread-safe; one request is under way at a time. Every call returns within twice the timeout (an
// answer that Ask did not wait for comes first), and after one that did not get its answer, all
// fail at once with UNAVAILABLE, until Keep opens another socket for what is mapped already.
// Descriptors are close-on-exec.
//
// Whoever has memory mapped that came through it holds it, so with the last of them nothing is
// mapped any more: then it says goodbye to the daemon, which need not wait for the process's end.
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
  static absl::StatusOr<std::shared_ptr<MemoryChannel>> Connect(const std::string& socket,
                                                                uint64_t session_id,
                                                                uint64_t daemon_epoch,
                                                                absl::Duration timeout,
                                                                Attached& attached);
  ~MemoryChannel();
  MemoryChannel(const MemoryChannel&) = delete;
  MemoryChannel& operator=(const MemoryChannel&) = delete;

  // The segment that the word lies in. NOT_FOUND: there is another by now.
  absl::StatusOr<Segment> RequestSegment(wire::ResidencyWord word, wire::SegmentAccess access)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // What RequestSegment for reading would return, without waiting for the daemon longer than
  // `patience`, and not at all for another thread's request. Nullopt: there is no answer yet; to be
  // asked again then, with the same word, before another.
  std::optional<absl::Status> Ask(wire::ResidencyWord word, absl::Duration patience)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The writable segment is mapped; returns once nobody else can do that any more.
  absl::Status ConfirmMapped(wire::ResidencyWord word) ABSL_LOCKS_EXCLUDED(mutex_);

  // Call every now and then. Where the socket broke it tries once to open another one for the same
  // client, waiting for a quarter of the timeout: at once, then ever more rarely, so that a daemon
  // that closes it again and again is not kept busy.
  void Keep() ABSL_LOCKS_EXCLUDED(mutex_);
  // How often that worked.
  uint64_t reopened() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::duration kPauseFirst = std::chrono::seconds(1);
  static constexpr Clock::duration kPauseMax = std::chrono::minutes(1);

  MemoryChannel(std::string socket_path, const wire::HelloRequest& hello, absl::Duration timeout);

  // Sends `request`; `reply` gets a packet of exactly its size and type, `fds` as many descriptors
  // as came, at most `fds_max`.
  template <typename Request, typename Reply>
  absl::Status Exchange(const Request& request, Reply& reply, wire::AttachType reply_type,
                        ScopedFd* fds, int fds_max, int& fds_got)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<absl::Status> AskLocked(wire::ResidencyWord word, absl::Duration patience)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Waits for the answer to what was asked. The daemon takes no request, and no goodbye, before.
  absl::Status TakeAnswer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Break(absl::Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Counts as a try.
  bool IsTimeToReopen() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string socket_path_;
  const wire::HelloRequest hello_;
  const absl::Duration timeout_;
  const pid_t process_;  // a child that was forked since has nothing of what is mapped
  mutable absl::Mutex mutex_;
  ScopedFd socket_ ABSL_GUARDED_BY(mutex_);
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);
  struct Asked {
    wire::ResidencyWord word;
    std::optional<absl::Status> answer;
  };
  std::optional<Asked> asked_ ABSL_GUARDED_BY(mutex_);
  Clock::time_point reopen_at_ ABSL_GUARDED_BY(mutex_);
  Clock::duration pause_ ABSL_GUARDED_BY(mutex_) = kPauseFirst;
  uint64_t reopened_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace kvtier
