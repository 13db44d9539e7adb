#include "client/daemon_link.h"

#include <unistd.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/daemon_channel.h"
#include "proto/wire/version.h"

namespace kvtier {
namespace {

// Not absl::Now(): a step of the wall clock must not look like silence.
int64_t SteadyNanoseconds() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

}  // namespace

absl::StatusOr<std::shared_ptr<DaemonLink>> DaemonLink::Connect(const std::string& socket) {
  std::shared_ptr<DaemonLink> link(new DaemonLink);
  link->socket_ = socket;
  for (auto* stub : {&link->control_, &link->bulk_}) {
    auto channel = ConnectDaemonChannel(socket);
    if (!channel.ok()) return channel.status();
    *stub = kvtier::v1::KvCache::NewStub(*channel);
  }
  link->NoteSignOfLife();
  return link;
}

absl::Status DaemonLink::Attach(const std::string& client_name, absl::Duration timeout) {
  kvtier::v1::AttachRequest request;
  request.mutable_version()->set_major(wire::kProtocolMajor);
  request.mutable_version()->set_minor(wire::kProtocolMinor);
  request.set_client_name(client_name);
  request.set_pid(::getpid());
  kvtier::v1::AttachReply reply;
  grpc::ClientContext context;
  {
    absl::MutexLock lock(&mutex_);
    if (!lost_.ok()) return lost_;
    in_flight_.insert(&context);
  }
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  const absl::Status status = StatusFromGrpc(control_->Attach(&context, request, &reply));
  {
    absl::MutexLock lock(&mutex_);
    in_flight_.erase(&context);
    if (!lost_.ok()) return lost_;
  }
  if (absl::IsDeadlineExceeded(status) || absl::IsCancelled(status)) {
    return absl::UnavailableError(absl::StrCat("kvtierd at ", socket_, " did not answer within ",
                                               absl::FormatDuration(timeout)));
  }
  if (absl::IsUnavailable(status)) {
    if (absl::Status refused = DaemonRefusal(socket_); !refused.ok()) return refused;
    return absl::UnavailableError(absl::StrCat("kvtierd at ", socket_, ": ", status.message()));
  }
  if (!status.ok()) return status;
  // The daemon refuses other majors itself; this is for one that is older than that rule.
  if (reply.version().major() != wire::kProtocolMajor) {
    return absl::FailedPreconditionError(
        absl::StrCat("kvtierd at ", socket_, " speaks protocol version ", reply.version().major(),
                     ".", reply.version().minor(), ", this client speaks ", wire::kProtocolMajor,
                     ".", wire::kProtocolMinor, ": install versions with the same major number"));
  }
  session_.id = reply.session_id();
  session_.daemon_epoch = reply.daemon_epoch();
  session_.heartbeat_interval =
      absl::Milliseconds(static_cast<int64_t>(reply.heartbeat_interval_ms()));
  session_.tenant = reply.tenant();
  session_.tenant_salt = reply.tenant_salt();
  session_.message_bytes_max = reply.message_bytes_max();
  session_.shared_memory_socket = reply.shared_memory_socket();
  session_.takes_logical_time = reply.takes_logical_time();
  NoteSignOfLife();
  return absl::OkStatus();
}

DaemonLink::Call::Call(std::shared_ptr<DaemonLink> link, absl::Duration timeout)
    : link_(std::move(link)) {
  if (timeout < absl::InfiniteDuration()) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  }
  absl::MutexLock lock(&link_->mutex_);
  link_->in_flight_.insert(&context_);
  // Cancelling before the call starts makes it fail as soon as it does.
  if (!link_->lost_.ok()) context_.TryCancel();
}

DaemonLink::Call::~Call() {
  absl::MutexLock lock(&link_->mutex_);
  link_->in_flight_.erase(&context_);
}

absl::Status DaemonLink::Call::Finish(const grpc::Status& status) {
  if (status.ok()) {
    link_->NoteSignOfLife();
    return absl::OkStatus();
  }
  absl::Status lost = link_->lost();
  if (!lost.ok() && (status.error_code() == grpc::StatusCode::CANCELLED ||
                     status.error_code() == grpc::StatusCode::UNAVAILABLE)) {
    return lost;
  }
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return absl::UnavailableError(
        absl::StrCat("kvtierd at ", link_->socket_, ": ", status.error_message()));
  }
  return StatusFromGrpc(status);
}

void DaemonLink::NoteSignOfLife() {
  last_sign_of_life_ns_.store(SteadyNanoseconds(), std::memory_order_relaxed);
}

absl::Duration DaemonLink::silence() const {
  return absl::Nanoseconds(SteadyNanoseconds() -
                           last_sign_of_life_ns_.load(std::memory_order_relaxed));
}

absl::Status DaemonLink::HeartbeatOver(kvtier::v1::KvCache::Stub& stub, absl::Duration timeout) {
  kvtier::v1::HeartbeatRequest request;
  request.set_session_id(session_.id);
  kvtier::v1::HeartbeatReply reply;
  Call call(shared_from_this(), timeout);
  return call.Finish(stub.Heartbeat(call.context(), request, &reply));
}

void DaemonLink::Detach(absl::Duration timeout) {
  kvtier::v1::DetachRequest request;
  request.set_session_id(session_.id);
  kvtier::v1::DetachReply reply;
  Call call(shared_from_this(), timeout);
  (void)control_->Detach(call.context(), request, &reply);
}

void DaemonLink::set_memory(std::shared_ptr<TenantMemory> memory) {
  absl::MutexLock lock(&mutex_);
  memory_ = std::move(memory);
  if (!lost_.ok()) memory_->MarkLost();
}

void DaemonLink::MarkLost(absl::Status reason) {
  absl::MutexLock lock(&mutex_);
  if (!lost_.ok()) return;
  if (memory_ != nullptr) memory_->MarkLost();
  lost_ = std::move(reason);
  for (grpc::ClientContext* context : in_flight_) context->TryCancel();
}

absl::Status DaemonLink::lost() const {
  absl::MutexLock lock(&mutex_);
  return lost_;
}

}  // namespace kvtier
