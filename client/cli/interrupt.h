// Signals that end a command which has something to put in order first.
#pragma once

#include "absl/status/status.h"

namespace kvtier::cli {

// From here on the first SIGINT, SIGTERM or SIGHUP does not end the program but shows below, so
// that the command can end as it does after an error. The second of a kind ends it at once. A
// signal that the program was started to ignore stays ignored. SIGPIPE no longer ends it either: to
// write where nobody reads is an error like any other. Programs that are started later are not
// affected. Call on the main thread.
void CatchSignals();

// The signal that came; 0: none.
int CaughtSignal();

// CANCELLED once a signal has come.
absl::Status CheckInterrupted();

// Readable once a signal has come, to wait for it beside others; -1 before CatchSignals().
int InterruptFd();

// Waits until `fd` is ready for `events` (as of poll) or has failed; CANCELLED: a signal came.
absl::Status AwaitReady(int fd, short events);

}  // namespace kvtier::cli
