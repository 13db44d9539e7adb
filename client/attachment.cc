#include "client/attachment.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/daemon_channel.h"

namespace kvtier {
namespace {

constexpr absl::Duration kRetryFirst = absl::Milliseconds(10);
constexpr absl::Duration kRetryMax = absl::Milliseconds(250);

absl::Status ClosedError() { return absl::CancelledError("the kvtier client was closed"); }

}  // namespace

Attachment::Attachment(Options options) : options_(std::move(options)) {
  absl::MutexLock lock(&mutex_);
  attach_error_ = absl::UnavailableError(
      absl::StrCat("not attached to a kvtierd at ", options_.socket, " yet"));
}

Attachment::~Attachment() { Shutdown(); }

absl::StatusOr<std::shared_ptr<DaemonLink>> Attachment::MakeLink() {
  auto link = DaemonLink::Connect(options_.socket);
  if (!link.ok()) return link.status();
  {
    // From here on Shutdown() can cut the attempt short.
    absl::MutexLock lock(&mutex_);
    if (shutdown_) return ClosedError();
    candidate_ = *link;
  }
  absl::Status status = (*link)->Attach(options_.name, options_.unavailable_after * 0.8);
  if (!status.ok()) return status;
  // The daemon may have taken one connection and refused the other.
  status = (*link)->HeartbeatOverBulk(heartbeat_timeout());
  if (absl::IsUnavailable(status)) {
    const absl::Status refused = DaemonRefusal(options_.socket);
    status = absl::IsResourceExhausted(refused)
                 ? refused
                 : absl::UnavailableError(absl::StrCat(
                       "kvtierd at ", options_.socket,
                       " took one of the two connections of this client and lost the other: ",
                       status.message()));
  }
  if (status.ok()) status = options_.on_attach(*link);
  if (status.ok()) return link;
  // The next attempt opens a session of its own.
  (*link)->Detach(heartbeat_timeout());
  return status;
}

absl::Status Attachment::Publish(absl::StatusOr<std::shared_ptr<DaemonLink>> link) {
  absl::MutexLock lock(&mutex_);
  candidate_ = nullptr;
  if (shutdown_) return ClosedError();
  attach_error_ = link.status();
  if (link.ok()) link_ = *std::move(link);
  return attach_error_;
}

absl::Status Attachment::AttachNow() { return Publish(MakeLink()); }

void Attachment::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Attachment::Shutdown() {
  std::shared_ptr<DaemonLink> link;
  {
    absl::MutexLock lock(&mutex_);
    shutdown_ = true;
    wake_ = true;
    link = std::move(link_);
    link_ = nullptr;
    if (candidate_ != nullptr) candidate_->MarkLost(ClosedError());
  }
  if (link != nullptr) {
    // A daemon that does not answer ends the session by itself; do not wait long for it.
    if (link->lost().ok()) link->Detach(std::min(heartbeat_timeout(), absl::Milliseconds(500)));
    link->MarkLost(ClosedError());
  }
  if (thread_.joinable()) thread_.join();
}

absl::StatusOr<std::shared_ptr<DaemonLink>> Attachment::Link() const {
  absl::MutexLock lock(&mutex_);
  if (shutdown_) return ClosedError();
  if (link_ == nullptr) return attach_error_;
  if (absl::Status lost = link_->lost(); !lost.ok()) return lost;
  return link_;
}

absl::Status Attachment::WaitAttached(absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  const auto attached_or_closed = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return shutdown_ || (link_ != nullptr && link_->lost().ok());
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&attached_or_closed), timeout)) {
    return absl::DeadlineExceededError(absl::StrCat("not attached to a kvtierd within ",
                                                    absl::FormatDuration(timeout), ": ",
                                                    attach_error_.message()));
  }
  return shutdown_ ? ClosedError() : absl::OkStatus();
}

void Attachment::Suspect(DaemonLink& link) {
  if (!link.lost().ok()) return;
  absl::Status status = link.Heartbeat(heartbeat_timeout());
  if (!absl::IsUnavailable(status)) {
    status = link.HeartbeatOverBulk(heartbeat_timeout());
    // The session lives on over the other connection, with leases that nobody uses any more.
    if (absl::IsUnavailable(status)) link.Detach(heartbeat_timeout());
  }
  if (absl::IsUnavailable(status)) Lose(link, status);
}

void Attachment::SessionEnded(DaemonLink& link) {
  Lose(link, absl::UnavailableError(absl::StrCat("kvtierd at ", link.socket(),
                                                 " has ended the session of this client")));
}

void Attachment::Lose(DaemonLink& link, absl::Status reason) {
  link.MarkLost(reason);
  absl::MutexLock lock(&mutex_);
  if (link_.get() == &link) {
    link_ = nullptr;
    attach_error_ = std::move(reason);
    wake_ = true;
  }
}

void Attachment::Watch(DaemonLink& link) {
  const absl::Status status = link.Heartbeat(heartbeat_timeout());
  if (absl::IsNotFound(status)) {
    SessionEnded(link);
  } else if (absl::IsUnavailable(status)) {
    Lose(link, status);
  } else if (absl::IsDeadlineExceeded(status) && link.silence() >= heartbeat_timeout()) {
    Lose(link, absl::UnavailableError(absl::StrCat(
                   "kvtierd at ", link.socket(), " has not answered for ",
                   absl::FormatDuration(absl::Trunc(link.silence(), absl::Milliseconds(1))))));
  }
}

void Attachment::Run() {
  absl::Duration retry = kRetryFirst;
  for (;;) {
    std::shared_ptr<DaemonLink> link;
    {
      absl::MutexLock lock(&mutex_);
      if (shutdown_) return;
      link = link_;
      wake_ = false;
    }
    if (link != nullptr) {
      retry = kRetryFirst;
      // Four times within the bound, whatever longer interval the session would need.
      Pause(std::clamp(link->session().heartbeat_interval, kRetryFirst,
                       options_.unavailable_after / 4));
      if (link->lost().ok()) Watch(*link);
      if (link->lost().ok() && options_.on_heartbeat != nullptr) options_.on_heartbeat(*link);
      continue;
    }
    if (!Publish(MakeLink()).ok()) {
      Pause(retry);
      retry = std::min(retry * 2, kRetryMax);
    }
  }
}

void Attachment::Pause(absl::Duration time) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&wake_), time);
}

}  // namespace kvtier
