// The byte streams (Store, Fetch) of one tenant that are open: bounded, and not held by clients
// that stand still.
#pragma once

#include <grpcpp/server_context.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tiering/base/mutex.h"

namespace kvtier {

// Each stream takes a thread of the tenant's server for as long as its client takes its time. So
// only some of the threads are for them, and one without progress for `stall_max` is cancelled by
// the next call that looks. Thread-safe.
class ByteStreams {
 public:
  struct Options {
    std::string tenant;
    uint32_t streams_max = 1;
    absl::Duration stall_max = absl::Seconds(30);
  };
  explicit ByteStreams(Options options) : options_(std::move(options)) {}

  // Open until it is destroyed, within the call that `context` is of.
  class Stream {
   public:
    Stream(ByteStreams* streams, grpc::ServerContext* context)
        : streams_(streams), context_(context) {
      Progress();
    }
    ~Stream() { streams_->Close(this); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    // The client took or sent a piece.
    void Progress() { progress_.store(std::chrono::steady_clock::now()); }

   private:
    friend class ByteStreams;
    ByteStreams* streams_;
    grpc::ServerContext* context_;
    std::atomic<std::chrono::steady_clock::time_point> progress_;
  };

  // RESOURCE_EXHAUSTED at streams_max.
  absl::StatusOr<std::unique_ptr<Stream>> Open(grpc::ServerContext* context)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Cancels the calls of streams that stand still.
  void CancelStalled() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Close(Stream* stream) ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  Mutex mutex_;
  std::list<Stream*> open_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvtier
