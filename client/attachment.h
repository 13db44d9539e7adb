// Keeps a client attached: watches over the link to the daemon and makes a new one when it is lost.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/daemon_link.h"

namespace kvtier {

// Thread-safe. One thread of its own sends heartbeats over the link, several within
// `unavailable_after`, and declares it lost when the daemon was silent for too long, so that calls
// in flight end in time even when the daemon is stopped and its sockets stay open. While there is
// no link it tries to attach every few milliseconds at first, then four times a second.
class Attachment {
 public:
  struct Options {
    std::string socket;
    std::string name;
    absl::Duration unavailable_after;
    // Called with each new link before it is handed out (models are registered again here); an
    // error drops the link. Never two calls at once.
    std::function<absl::Status(const std::shared_ptr<DaemonLink>&)> on_attach;
    // Called with a link that was handed out, after each heartbeat that it answered, on the thread
    // that sends them: it takes a fraction of `unavailable_after` at most. May be null.
    std::function<void(DaemonLink&)> on_heartbeat = nullptr;
  };
  explicit Attachment(Options options);
  ~Attachment();  // Shutdown()
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;

  // One attempt on the caller's thread; the error says why it failed. Only before Start().
  absl::Status AttachNow();
  // Starts the thread. Call once.
  void Start();
  // Cancels what is in flight with CANCELLED, ends the session and the thread. Nothing attaches any
  // more.
  void Shutdown() ABSL_LOCKS_EXCLUDED(mutex_);

  // The link to use for one operation. UNAVAILABLE while there is none (the message says what is
  // wrong), FAILED_PRECONDITION and PERMISSION_DENIED where the daemon that is there refuses this
  // client, CANCELLED after Shutdown().
  absl::StatusOr<std::shared_ptr<DaemonLink>> Link() const ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status WaitAttached(absl::Duration timeout) const ABSL_LOCKS_EXCLUDED(mutex_);

  // A call over `link` ended with UNAVAILABLE: finds out whether the link is lost, or the daemon
  // only refuses work.
  void Suspect(DaemonLink& link);
  // The daemon does not know the link's session: attaches anew.
  void SessionEnded(DaemonLink& link);

 private:
  absl::StatusOr<std::shared_ptr<DaemonLink>> MakeLink() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Publish(absl::StatusOr<std::shared_ptr<DaemonLink>> link)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Lose(DaemonLink& link, absl::Status reason) ABSL_LOCKS_EXCLUDED(mutex_);
  void Run();
  // One heartbeat and what follows from its answer.
  void Watch(DaemonLink& link);
  // Waits, or returns early when there is something to do.
  void Pause(absl::Duration time) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Duration heartbeat_timeout() const { return options_.unavailable_after * 0.4; }

  const Options options_;
  std::thread thread_;

  mutable absl::Mutex mutex_;
  std::shared_ptr<DaemonLink> link_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<DaemonLink> candidate_ ABSL_GUARDED_BY(mutex_);  // being attached
  absl::Status attach_error_ ABSL_GUARDED_BY(mutex_);
  bool wake_ ABSL_GUARDED_BY(mutex_) = false;
  bool shutdown_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kvtier
