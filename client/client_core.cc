#include "client/client_core.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "client/request_fields.h"

namespace kvtier {
namespace {

namespace v1 = kvtier::v1;

// As many as a daemon with default limits would give to all clients together.
constexpr size_t kReservationsMax = 16'384;
constexpr size_t kLeasesMax = 262'144;
// 512 MiB of what a client remembers, and it does not need half of the blocks of a large machine.
constexpr uint32_t kVerifiedBlocksMax = 67'108'864;

}  // namespace

absl::StatusOr<std::unique_ptr<ClientCore>> ClientCore::Create(ClientOptions options) {
  if (options.socket.empty()) options.socket = DefaultSocketPath();
  if (options.unavailable_after < absl::Milliseconds(100) ||
      options.unavailable_after > absl::Hours(1)) {
    return absl::InvalidArgumentError(absl::StrCat("unavailable_after is ",
                                                   absl::FormatDuration(options.unavailable_after),
                                                   ", it must be within 100ms to 1h"));
  }
  if (options.call_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "call_timeout is ", absl::FormatDuration(options.call_timeout), ", it must be above zero"));
  }
  if (options.name.size() > 128) {
    return absl::InvalidArgumentError(
        absl::StrCat("the client's name has ", options.name.size(), " bytes, the limit is 128"));
  }
  if (options.verified_blocks_max > kVerifiedBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat("verified_blocks_max is ",
                                                   options.verified_blocks_max, ", the limit is ",
                                                   kVerifiedBlocksMax));
  }
  SectionPlaces::Abandon(nullptr);
  auto tickets = TicketQueue::Create(options.tickets_max);
  if (!tickets.ok()) return tickets.status();
  std::unique_ptr<ClientCore> core(new ClientCore(std::move(options)));
  core->tickets_ = *std::move(tickets);
  return core;
}

ClientCore::ClientCore(ClientOptions options)
    : options_(std::move(options)),
      places_(std::make_unique<SectionPlaces>()),
      reservations_("reservation", kReservationsMax),
      leases_("lease", kLeasesMax) {
  attachment_ = std::make_unique<Attachment>(
      Attachment::Options{options_.socket, options_.name, options_.unavailable_after,
                          [this](const LinkPointer& link) { return OnAttach(link); },
                          [](DaemonLink& link) {
                            if (link.memory() != nullptr) link.memory()->Keep();
                          }});
}

absl::Status ClientCore::OnAttach(const LinkPointer& link) {
  // Whatever an earlier daemon or session gave out is gone. But somebody may be writing into
  // buffers of a reservation in place: those stay until a call shows that he knows.
  reservations_.EraseIf(
      [&](const auto& record) { return record->terms().link != link && !record->in_place(); });
  leases_.EraseIf([&](const auto& record) { return record->link != link; });
  absl::Status status = models_.RegisterAll(link, options_.unavailable_after);
  if (status.ok()) status = AttachMemory(link);
  if (status.ok()) places_->Publish(link->memory());
  return status;
}

absl::Status ClientCore::AttachMemory(const LinkPointer& link) {
  absl::Status status;
  if (options_.transport == Transport::kStream) {
    status = absl::FailedPreconditionError("ClientOptions::transport is kStream");
  } else if (link->session().shared_memory_socket.empty()) {
    status = absl::FailedPreconditionError(
        absl::StrCat("kvtierd at ", link->socket(), " offers none (listen.shared_memory)"));
  } else {
    auto memory = TenantMemory::Attach({.socket = link->session().shared_memory_socket,
                                        .session_id = link->session().id,
                                        .daemon_epoch = link->session().daemon_epoch,
                                        .timeout = options_.unavailable_after * 0.8,
                                        .verified_blocks_max = options_.verified_blocks_max,
                                        .places = places_.get()});
    status = memory.status();
    if (memory.ok()) link->set_memory(*std::move(memory));
  }
  {
    absl::MutexLock lock(&mutex_);
    transport_note_ = status.ok() ? "" : absl::StrCat("no shared memory: ", status.message());
  }
  if (options_.transport != Transport::kSharedMemory || status.ok()) return absl::OkStatus();
  return absl::Status(status.code(), absl::StrCat("no shared memory: ", status.message()));
}

Transport ClientCore::transport() const {
  const auto link = attachment_->Link();
  if (!link.ok()) return Transport::kAuto;
  return (*link)->memory() == nullptr ? Transport::kStream : Transport::kSharedMemory;
}

std::string ClientCore::transport_note() const {
  absl::MutexLock lock(&mutex_);
  return transport_note_;
}

void ClientCore::Close() {
  absl::MutexLock lock(&close_mutex_);
  attachment_->Shutdown();
  tickets_->Shutdown();
}

ClientCore::~ClientCore() {
  Close();
  absl::MutexLock lock(&mutex_);
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return running_ == 0; };
  mutex_.Await(absl::Condition(&idle));
  // Whatever shares memory has to go before the places do.
  leases_.EraseIf([](const auto&) { return true; });
  reservations_.EraseIf([](const auto&) { return true; });
  attachment_ = nullptr;
  SectionPlaces::Abandon(std::move(places_));
}

void ClientCore::Learn(DaemonLink& link, const absl::Status& status) {
  if (absl::IsUnavailable(status)) attachment_->Suspect(link);
}

absl::StatusOr<std::pair<ClientCore::LinkPointer, uint32_t>> ClientCore::LinkFor(
    const Model& model) {
  absl::Status status = models_.CheckKnown(model.registration_);
  if (!status.ok()) return status;
  auto link = attachment_->Link();
  if (!link.ok()) return link.status();
  auto id = model.registration_->IdFor(*link, options_.call_timeout);
  if (!id.ok()) {
    Learn(**link, id.status());
    return id.status();
  }
  return std::make_pair(*std::move(link), *id);
}

absl::StatusOr<std::shared_ptr<ReservationRecord>> ClientCore::FindReservation(
    ReservationHandle handle) {
  auto record = reservations_.Find(handle);
  if (!record.ok()) return record.status();
  if ((*record)->terms().link->lost().ok()) return record;
  // Without a daemon every call is UNAVAILABLE; with a new one the old handle is gone.
  auto link = attachment_->Link();
  if (!link.ok()) return link.status();
  reservations_.Erase(handle);
  return reservations_.Find(handle).status();
}

absl::StatusOr<ClientCore::LeasePointer> ClientCore::FindLease(LeaseHandle handle) {
  auto record = leases_.Find(handle);
  if (!record.ok() || (*record)->link->lost().ok()) return record;
  auto link = attachment_->Link();
  if (!link.ok()) return link.status();
  leases_.Erase(handle);
  return leases_.Find(handle).status();
}

absl::StatusOr<Completion> ClientCore::Wait(Ticket ticket, absl::Duration timeout) {
  const Running running(*this);
  return tickets_->Wait(ticket, timeout);
}

void ClientCore::SetLogicalTime(absl::Duration time) {
  logical_time_us_ = static_cast<uint64_t>(std::max<int64_t>(0, absl::ToInt64Microseconds(time)));
}

absl::Status ClientCore::WaitAttached(absl::Duration timeout) {
  const Running running(*this);
  return attachment_->WaitAttached(timeout);
}

absl::StatusOr<Model> ClientCore::RegisterModel(const ModelGeometry& geometry) {
  const Running running(*this);
  auto link = attachment_->Link();
  if (!link.ok()) return link.status();
  auto registration = models_.Register(geometry, *link, options_.call_timeout);
  if (!registration.ok()) {
    Learn(**link, registration.status());
    return registration.status();
  }
  Model model;
  model.geometry_ = (*registration)->geometry();
  model.registration_ = *std::move(registration);
  return model;
}

absl::StatusOr<uint32_t> ClientCore::Prefetch(const Model& model, const std::vector<Key>& keys) {
  const Running running(*this);
  auto target = LinkFor(model);
  if (!target.ok()) return target.status();
  v1::PrefetchRequest message;
  message.set_session_id(target->first->session().id);
  message.set_model_id(target->second);
  message.set_keys(PackKeys(keys));
  v1::PrefetchReply reply;
  absl::Status status = Send(target->first, &v1::KvCache::Stub::Prefetch, message, reply);
  if (!status.ok()) return status;
  return reply.accepted_chunks();
}

absl::StatusOr<uint32_t> ClientCore::Forget(const Model& model, const std::vector<Key>& keys) {
  const Running running(*this);
  auto target = LinkFor(model);
  if (!target.ok()) return target.status();
  v1::ForgetRequest message;
  message.set_session_id(target->first->session().id);
  message.set_model_id(target->second);
  message.set_keys(PackKeys(keys));
  v1::ForgetReply reply;
  absl::Status status = Send(target->first, &v1::KvCache::Stub::Forget, message, reply);
  if (!status.ok()) return status;
  return reply.forgotten_chunks();
}

absl::Status ClientCore::Watch(uint64_t after_sequence,
                               const std::function<bool(const WatchEvent&)>& on_event,
                               WatchStop* stop) {
  const Running running(*this);
  auto link = attachment_->Link();
  if (!link.ok()) return link.status();
  absl::Status status = ReadEvents(*link, after_sequence, on_event, stop);
  Learn(**link, status);
  return status;
}

}  // namespace kvtier
