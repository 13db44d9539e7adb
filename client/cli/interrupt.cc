#include "client/cli/interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "absl/strings/str_cat.h"

namespace kvtier::cli {
namespace {

std::atomic<int> caught{0};
static_assert(std::atomic<int>::is_always_lock_free);  // a handler may use it
// Readable once a signal has come: a flag alone could be set just before a call that waits.
std::atomic<int> wake_reader{-1};
std::atomic<int> wake_writer{-1};

void Note(int signal) {
  const int saved = errno;
  int none = 0;
  caught.compare_exchange_strong(none, signal);
  const char byte = 's';
  [[maybe_unused]] const ssize_t written = ::write(wake_writer, &byte, 1);
  errno = saved;
}

void Nothing(int) {}

void Handle(int signal, void (*handler)(int), int flags) {
  struct sigaction old {};
  if (::sigaction(signal, nullptr, &old) != 0 || old.sa_handler == SIG_IGN) return;
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(signal, &action, nullptr);
}

}  // namespace

void CatchSignals() {
  int ends[2];
  if (wake_reader < 0 && ::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0) {
    wake_reader = ends[0];
    wake_writer = ends[1];
  }
  // Without SA_RESTART: a call that waits must return.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) Handle(signal, Note, SA_RESETHAND);
  // A handler, unlike SIG_IGN, does not outlive exec.
  Handle(SIGPIPE, Nothing, SA_RESTART);
}

int CaughtSignal() { return caught; }

absl::Status CheckInterrupted() {
  const int signal = caught;
  if (signal == 0) return absl::OkStatus();
  return absl::CancelledError(absl::StrCat("interrupted by SIG", ::sigabbrev_np(signal)));
}

int InterruptFd() { return wake_reader; }

absl::Status AwaitReady(int fd, short events) {
  pollfd waits[2] = {{fd, events, 0}, {wake_reader, POLLIN, 0}};
  while (::poll(waits, 2, -1) < 0 && errno == EINTR && caught == 0) {
  }
  return CheckInterrupted();
}

}  // namespace kvtier::cli
