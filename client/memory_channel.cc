#include "client/memory_channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"

namespace kvtier {
namespace {

using wire::AttachType;

// Text of a message: ends at its zero, or with its room.
std::string TextOf(const char (&text)[wire::kAttachTextBytes]) {
  return std::string(text, ::strnlen(text, sizeof(text)));
}

absl::Status ErrorOf(uint32_t code, const char (&text)[wire::kAttachTextBytes]) {
  return absl::Status(static_cast<absl::StatusCode>(code), TextOf(text));
}

// Waits no longer than this for each of connect, send and receive.
absl::Status LimitWaits(int fd, absl::Duration timeout) {
  const timeval limit = absl::ToTimeval(std::max(timeout, absl::Milliseconds(1)));
  for (const int option : {SO_SNDTIMEO, SO_RCVTIMEO}) {
    if (::setsockopt(fd, SOL_SOCKET, option, &limit, sizeof(limit)) != 0) {
      return absl::InternalError(absl::StrCat("cannot set a time limit of ",
                                              absl::FormatDuration(timeout),
                                              " on a socket: ", std::strerror(errno)));
    }
  }
  return absl::OkStatus();
}

// Takes the descriptors out of a received message; those beyond `fds_max` are closed.
int TakeFds(msghdr& message, ScopedFd* fds, int fds_max) {
  int got = 0;
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
       control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(fd));
      ScopedFd owned(fd);
      if (got < fds_max) fds[got++] = std::move(owned);
    }
  }
  return got;
}

absl::Status Lost(absl::string_view why) {
  return absl::UnavailableError(absl::StrCat("kvtierd's shared-memory socket: ", why));
}

absl::Status Send(int socket, const void* packet, size_t bytes) {
  ssize_t sent;
  do {
    sent = ::send(socket, packet, bytes, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent == static_cast<ssize_t>(bytes)) return absl::OkStatus();
  return Lost(sent < 0 ? std::strerror(errno) : "a packet was cut");
}

absl::Status Receive(int socket, absl::Duration timeout, void* packet, size_t bytes,
                     AttachType type, ScopedFd* fds, int fds_max, int& fds_got) {
  iovec room{packet, bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
  msghdr message{};
  message.msg_iov = &room;
  message.msg_iovlen = 1;
  ssize_t got;
  const absl::Time deadline = absl::Now() + timeout;
  do {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR && absl::Now() < deadline);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
    return Lost(absl::StrCat("no answer within ", absl::FormatDuration(timeout)));
  }
  if (got < 0) return Lost(std::strerror(errno));
  fds_got = TakeFds(message, fds, fds_max);
  if (got == 0) return Lost("it was closed");
  AttachType got_type{};
  if (got >= static_cast<ssize_t>(sizeof(got_type))) {
    std::memcpy(&got_type, packet, sizeof(got_type));
  }
  if (got != static_cast<ssize_t>(bytes) || (message.msg_flags & MSG_TRUNC) != 0 ||
      got_type != type) {
    return Lost(absl::StrCat("a packet of ", got, " bytes and type ",
                             static_cast<uint32_t>(got_type), " came instead of ", bytes,
                             " and type ", static_cast<uint32_t>(type)));
  }
  return absl::OkStatus();
}

wire::SegmentRequest RequestFor(wire::ResidencyWord word, wire::SegmentAccess access) {
  wire::SegmentRequest request;
  request.access = access;
  request.pool = word.pool();
  request.segment = word.segment();
  request.incarnation = word.incarnation();
  return request;
}

// Where it does not get there, the daemon waits for the process's end.
void SayGoodbye(int fd) {
  const wire::Goodbye goodbye;
  (void)::send(fd, &goodbye, sizeof(goodbye), MSG_NOSIGNAL | MSG_DONTWAIT);
}

// Connects and says hello; the reply is one of success.
absl::StatusOr<ScopedFd> Open(const std::string& path, const wire::HelloRequest& hello,
                              absl::Duration timeout, wire::HelloReply& reply, ScopedFd* fds,
                              int fds_wanted) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("shared-memory socket \"", path, "\" has ",
                                                   path.size(), " bytes, the limit is 1 to ",
                                                   sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  ScopedFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot make a Unix socket: ", std::strerror(errno)));
  }
  if (absl::Status status = LimitWaits(fd.get(), timeout); !status.ok()) return status;
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot connect to ", path, ": ", std::strerror(errno)));
  }
  int fds_got = 0;
  absl::Status status = Send(fd.get(), &hello, sizeof(hello));
  if (status.ok()) {
    status = Receive(fd.get(), timeout, &reply, sizeof(reply), AttachType::kHelloReply, fds,
                     fds_wanted, fds_got);
  }
  if (!status.ok()) return status;
  if (reply.code != 0) return ErrorOf(reply.code, reply.text);
  // From here on this is a client of the daemon's. One that begins and cannot go on has nothing
  // mapped: without a goodbye it would count until the process ends.
  const auto give_up = [&](absl::Status why) {
    if (hello.resume == 0) SayGoodbye(fd.get());
    return why;
  };
  if (reply.major != wire::kAttachMajor) {
    return give_up(absl::FailedPreconditionError(absl::StrCat(
        "kvtierd shares memory by version ", reply.major, ".", reply.minor,
        " of its messages, this client by ", wire::kAttachMajor, ".", wire::kAttachMinor)));
  }
  if (fds_got != fds_wanted) {
    return give_up(absl::InternalError(absl::StrCat("kvtierd answered hello with ", fds_got,
                                                    " descriptors instead of ", fds_wanted)));
  }
  return fd;
}

}  // namespace

ScopedFd& ScopedFd::operator=(ScopedFd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = other.Take();
  }
  return *this;
}
ScopedFd::~ScopedFd() {
  if (fd_ >= 0) ::close(fd_);
}
int ScopedFd::Take() { return std::exchange(fd_, -1); }

MemoryChannel::MemoryChannel(std::string socket_path, const wire::HelloRequest& hello,
                             absl::Duration timeout)
    : socket_path_(std::move(socket_path)),
      hello_(hello),
      timeout_(timeout),
      process_(::getpid()) {}

MemoryChannel::~MemoryChannel() {
  if (::getpid() != process_) return;
  absl::MutexLock lock(&mutex_);
  if (broken_.ok() && asked_ && !asked_->answer) (void)TakeAnswer();
  if (broken_.ok()) SayGoodbye(socket_.get());
}

absl::StatusOr<std::shared_ptr<MemoryChannel>> MemoryChannel::Connect(const std::string& socket,
                                                                      uint64_t session_id,
                                                                      uint64_t daemon_epoch,
                                                                      absl::Duration timeout,
                                                                      Attached& attached) {
  wire::HelloRequest hello;
  hello.session_id = session_id;
  hello.daemon_epoch = daemon_epoch;
  wire::HelloReply reply;
  ScopedFd fds[2];
  auto fd = Open(socket, hello, timeout, reply, fds, static_cast<int>(std::size(fds)));
  if (!fd.ok()) return fd.status();
  attached.index = std::move(fds[0]);
  attached.client_page = std::move(fds[1]);
  attached.index_bytes = reply.index_bytes;
  attached.client_page_bytes = reply.client_page_bytes;
  hello.resume = 1;
  std::shared_ptr<MemoryChannel> channel(new MemoryChannel(socket, hello, timeout));
  absl::MutexLock lock(&channel->mutex_);
  channel->socket_ = *std::move(fd);
  return channel;
}

absl::StatusOr<MemoryChannel::Segment> MemoryChannel::RequestSegment(wire::ResidencyWord word,
                                                                     wire::SegmentAccess access) {
  const wire::SegmentRequest request = RequestFor(word, access);
  wire::SegmentReply reply;
  Segment segment;
  int fds_got = 0;
  absl::MutexLock lock(&mutex_);
  absl::Status status =
      Exchange(request, reply, AttachType::kSegmentReply, &segment.fd, 1, fds_got);
  if (!status.ok()) return status;
  if (reply.code != 0) return ErrorOf(reply.code, reply.text);
  if (fds_got != 1) {
    return absl::InternalError(absl::StrCat("kvtierd gave segment ", word.segment(), " of pool ",
                                            word.pool(), " without its descriptor"));
  }
  segment.segment_bytes = reply.segment_bytes;
  segment.slot_bytes = reply.slot_bytes;
  segment.pool = TextOf(reply.text);
  return segment;
}

std::optional<absl::Status> MemoryChannel::Ask(wire::ResidencyWord word, absl::Duration patience) {
  if (!mutex_.TryLock()) return std::nullopt;
  std::optional<absl::Status> answer = AskLocked(word, patience);
  mutex_.Unlock();
  return answer;
}

std::optional<absl::Status> MemoryChannel::AskLocked(wire::ResidencyWord word,
                                                     absl::Duration patience) {
  if (!broken_.ok()) return broken_;
  if (!asked_) {
    const wire::SegmentRequest request = RequestFor(word, wire::SegmentAccess::kRead);
    absl::Status sent = Send(socket_.get(), &request, sizeof(request));
    if (!sent.ok()) return Break(std::move(sent));
    asked_.emplace(Asked{.word = word, .answer = std::nullopt});
  }
  if (!asked_->answer) {
    pollfd answer{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&answer, 1, static_cast<int>(absl::ToInt64Milliseconds(patience))) <= 0)
      return std::nullopt;
    if (absl::Status taken = TakeAnswer(); !taken.ok()) return taken;
  }
  const Asked asked = *std::exchange(asked_, std::nullopt);
  return asked.word == word ? asked.answer : std::nullopt;
}

absl::Status MemoryChannel::TakeAnswer() {
  wire::SegmentReply reply;
  ScopedFd segment;  // closed: that there is one says it all
  int fds_got = 0;
  absl::Status status = Receive(socket_.get(), timeout_, &reply, sizeof(reply),
                                AttachType::kSegmentReply, &segment, 1, fds_got);
  if (!status.ok()) return Break(std::move(status));
  asked_->answer = reply.code == 0 ? absl::OkStatus() : ErrorOf(reply.code, reply.text);
  return absl::OkStatus();
}

absl::Status MemoryChannel::ConfirmMapped(wire::ResidencyWord word) {
  wire::SegmentMapped mapped;
  mapped.pool = word.pool();
  mapped.segment = word.segment();
  mapped.incarnation = word.incarnation();
  wire::SegmentSealed reply;
  int fds_got = 0;
  absl::MutexLock lock(&mutex_);
  absl::Status status = Exchange(mapped, reply, AttachType::kSegmentSealed, nullptr, 0, fds_got);
  if (!status.ok() || reply.code == 0) return status;
  return absl::Status(
      static_cast<absl::StatusCode>(reply.code),
      absl::StrCat("kvtierd could not seal segment ", word.segment(), " of pool ", word.pool()));
}

void MemoryChannel::Keep() {
  // A request that is under way finds out by itself; to wait for it would keep heartbeats waiting.
  if (!mutex_.TryLock()) return;
  const bool reopen = IsTimeToReopen();
  mutex_.Unlock();
  if (!reopen) return;
  // Without the lock: who asks for something meanwhile is told at once that there is none.
  wire::HelloReply reply;
  auto fd = Open(socket_path_, hello_, timeout_ / 4, reply, nullptr, 0);
  if (!fd.ok() || !LimitWaits(fd->get(), timeout_).ok()) return;
  absl::MutexLock lock(&mutex_);
  socket_ = *std::move(fd);
  broken_ = absl::OkStatus();
  ++reopened_;
}

bool MemoryChannel::IsTimeToReopen() {
  pollfd state{.fd = socket_.get(), .events = POLLRDHUP, .revents = 0};
  if (broken_.ok() && ::poll(&state, 1, 0) > 0) (void)Break(Lost("it was closed"));
  const Clock::time_point now = Clock::now();
  if (broken_.ok() || now < reopen_at_) return false;
  reopen_at_ = now + pause_;
  pause_ = std::min(2 * pause_, kPauseMax);
  return true;
}

uint64_t MemoryChannel::reopened() const {
  absl::MutexLock lock(&mutex_);
  return reopened_;
}

template <typename Request, typename Reply>
absl::Status MemoryChannel::Exchange(const Request& request, Reply& reply, AttachType reply_type,
                                     ScopedFd* fds, int fds_max, int& fds_got) {
  if (!broken_.ok()) return broken_;
  if (asked_ && !asked_->answer) {
    if (absl::Status taken = TakeAnswer(); !taken.ok()) return taken;
  }
  absl::Status status = Send(socket_.get(), &request, sizeof(request));
  if (!status.ok()) return Break(std::move(status));
  status =
      Receive(socket_.get(), timeout_, &reply, sizeof(reply), reply_type, fds, fds_max, fds_got);
  if (!status.ok()) return Break(std::move(status));
  pause_ = kPauseFirst;
  return absl::OkStatus();
}

absl::Status MemoryChannel::Break(absl::Status why) {
  broken_ = std::move(why);
  asked_.reset();
  socket_ = ScopedFd();  // what comes late answers nobody
  return broken_;
}

}  // namespace kvtier
