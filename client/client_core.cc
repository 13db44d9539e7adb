#include "client/client_core.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>

#include "absl/strings/str_cat.h"

namespace kvtier {
namespace {

namespace v1 = kvtier::v1;

// As many as a daemon with default limits would give to all clients together.
constexpr size_t kReservationsMax = 16'384;
constexpr size_t kLeasesMax = 262'144;
// A Commit is split into messages of about this size.
constexpr size_t kCommitBytes = 1 << 20;

std::string PackKeys(const std::vector<Key>& keys) {
  std::string bytes(keys.size() * sizeof(Key), '\0');
  if (!keys.empty()) std::memcpy(bytes.data(), keys.data(), bytes.size());
  return bytes;
}

absl::StatusOr<uint64_t> Milliseconds(const char* name, absl::Duration time) {
  if (time < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is ", absl::FormatDuration(time), ", it must not be negative"));
  }
  if (time == absl::ZeroDuration()) return 0;
  // Rounded up: 0 would mean the default.
  return static_cast<uint64_t>(
      std::max<int64_t>(1, absl::ToInt64Milliseconds(absl::Ceil(time, absl::Milliseconds(1)))));
}

absl::Status FillHints(const WriteHints& hints, v1::Hints& out) {
  auto keep_ms = Milliseconds("keep", hints.keep);
  if (!keep_ms.ok()) return keep_ms.status();
  out.set_keep_ms(*keep_ms);
  out.set_priority(static_cast<v1::Priority>(hints.priority));
  out.set_do_not_store(hints.do_not_store);
  return absl::OkStatus();
}

// See ReportRequest.PlaneReads.log_mass. INVALID_ARGUMENT unless 0 <= mass <= 1.
absl::StatusOr<char> LogMass(double mass) {
  if (!(mass >= 0 && mass <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("attention mass ", mass, " is not within 0 to 1"));
  }
  if (mass == 0) return '\0';
  const double level = std::round(255 + 8 * std::log2(mass));
  return static_cast<char>(static_cast<uint8_t>(std::clamp(level, 1.0, 255.0)));
}

}  // namespace

class ClientCore::Running {
 public:
  explicit Running(ClientCore& core) : core_(core) {
    absl::MutexLock lock(&core_.mutex_);
    ++core_.running_;
  }
  ~Running() {
    absl::MutexLock lock(&core_.mutex_);
    --core_.running_;
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  ClientCore& core_;
};

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
  auto tickets = TicketQueue::Create(options.tickets_max);
  if (!tickets.ok()) return tickets.status();
  std::unique_ptr<ClientCore> core(new ClientCore(std::move(options)));
  core->tickets_ = *std::move(tickets);
  return core;
}

ClientCore::ClientCore(ClientOptions options)
    : options_(std::move(options)),
      reservations_("reservation", kReservationsMax),
      leases_("lease", kLeasesMax) {
  attachment_ = std::make_unique<Attachment>(Attachment::Options{
      options_.socket, options_.name, options_.unavailable_after, [this](const LinkPointer& link) {
        // Whatever an earlier daemon or session gave out is gone.
        reservations_.EraseIf([&](const auto& record) { return record->terms().link != link; });
        leases_.EraseIf([&](const auto& record) { return record.link != link; });
        return models_.RegisterAll(link, options_.unavailable_after);
      }});
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
}

void ClientCore::Learn(DaemonLink& link, const absl::Status& status) {
  if (absl::IsUnavailable(status)) attachment_->Suspect(link);
}

template <typename Method, typename Request, typename Reply>
absl::Status ClientCore::Send(const LinkPointer& link, Method method, const Request& request,
                              Reply& reply) {
  absl::Status status;
  {
    DaemonLink::Call call(link, options_.call_timeout);
    status = call.Finish((link->control().*method)(call.context(), request, &reply));
  }
  Learn(*link, status);
  return status;
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

absl::StatusOr<LeaseRecord> ClientCore::FindLease(LeaseHandle handle) {
  auto record = leases_.Find(handle);
  if (!record.ok() || record->link->lost().ok()) return record;
  auto link = attachment_->Link();
  if (!link.ok()) return link.status();
  leases_.Erase(handle);
  return leases_.Find(handle).status();
}

absl::StatusOr<Completion> ClientCore::Wait(Ticket ticket, absl::Duration timeout) {
  const Running running(*this);
  return tickets_->Wait(ticket, timeout);
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

absl::StatusOr<ReservationHandle> ClientCore::Reserve(const ReserveRequest& request) {
  const Running running(*this);
  auto target = LinkFor(request.model);
  if (!target.ok()) return target.status();
  absl::Status status = reservations_.CheckRoom();
  if (!status.ok()) return status;
  const LinkPointer& link = target->first;
  v1::ReserveRequest message;
  message.set_session_id(link->session().id);
  message.set_model_id(target->second);
  if (request.parent != Key{}) message.set_parent_key(request.parent.data(), request.parent.size());
  message.set_chunk_count(request.chunk_count);
  message.mutable_planes()->Assign(request.planes.begin(), request.planes.end());
  status = FillHints(request.hints, *message.mutable_hints());
  if (!status.ok()) return status;
  v1::ReserveReply reply;
  status = Send(link, &v1::KvCache::Stub::Reserve, message, reply);
  if (!status.ok()) return status;
  ReservationRecord::Terms terms{link, reply.reservation_id(), request.model.registration_,
                                 request.chunk_count, request.planes};
  if (terms.planes.empty()) {
    terms.planes.resize(request.model.geometry().planes.size());
    std::iota(terms.planes.begin(), terms.planes.end(), 0);
  }
  return reservations_.Add(std::make_shared<ReservationRecord>(std::move(terms)));
}

absl::Status ClientCore::Put(const PutRequest& request) {
  const Running running(*this);
  auto record = FindReservation(request.reservation);
  if (!record.ok()) return record.status();
  const ReservationRecord::Terms& terms = (*record)->terms();
  if (request.model.registration_ != terms.model) {
    return absl::InvalidArgumentError(
        absl::StrCat("reservation ", request.reservation, " is of another model"));
  }
  absl::Status status = StoreBlocks(**record, request.blocks, options_.call_timeout);
  Learn(*terms.link, status);
  return status;
}

absl::StatusOr<CommitResult> ClientCore::CommitOutcome(ReservationRecord& record,
                                                       const ChunkCommit& chunk,
                                                       const std::vector<uint32_t>& planes,
                                                       const v1::CommitReply::Chunk& reply,
                                                       bool& empty) {
  switch (reply.outcome()) {
    case v1::CommitReply::COMMITTED:
    case v1::CommitReply::PARTIAL:
      empty = record.NoteCommitted(chunk.chunk, planes);
      return reply.outcome() == v1::CommitReply::COMMITTED ? CommitResult::kCommitted
                                                           : CommitResult::kPartial;
    case v1::CommitReply::ALREADY_EXISTS:
      empty = record.NoteCommitted(chunk.chunk, planes);
      return CommitResult::kAlreadyExists;
    case v1::CommitReply::FAILED:
      return absl::Status(static_cast<absl::StatusCode>(reply.code()),
                          absl::StrCat("chunk ", chunk.chunk, ": ", reply.error()));
    default:
      return absl::InternalError(absl::StrCat("chunk ", chunk.chunk,
                                              ": kvtierd answered with outcome ",
                                              static_cast<int>(reply.outcome())));
  }
}

absl::StatusOr<std::vector<CommitResult>> ClientCore::Commit(const CommitRequest& request) {
  const Running running(*this);
  auto record = FindReservation(request.reservation);
  if (!record.ok()) return record.status();
  ReservationRecord& reservation = **record;
  const ReservationRecord::Terms& terms = reservation.terms();
  if (request.model.registration_ != terms.model) {
    return absl::InvalidArgumentError(
        absl::StrCat("reservation ", request.reservation, " is of another model"));
  }
  std::vector<CommitResult> results;
  size_t next = 0;
  while (next < request.chunks.size()) {
    v1::CommitRequest message;
    message.set_session_id(terms.link->session().id);
    message.set_reservation_id(terms.daemon_id);
    const size_t first = next;
    for (size_t bytes = 0; next < request.chunks.size() && bytes < kCommitBytes; ++next) {
      const ChunkCommit& chunk = request.chunks[next];
      v1::CommitChunk* out = message.add_chunks();
      out->set_chunk(chunk.chunk);
      out->mutable_name()->set_key(chunk.key.data(), chunk.key.size());
      out->set_token_count(chunk.token_count);
      out->mutable_planes()->Assign(chunk.planes.begin(), chunk.planes.end());
      for (const uint32_t plane : chunk.planes.empty() ? terms.planes : chunk.planes) {
        absl::Status status = reservation.CheckBlock(chunk.chunk, plane);
        if (!status.ok()) return status;
        auto checksum = reservation.Checksum(chunk.chunk, plane);
        if (!checksum.ok()) return checksum.status();
        out->add_checksums(*checksum);
      }
      bytes += out->ByteSizeLong();
    }
    v1::CommitReply reply;
    absl::Status status = Send(terms.link, &v1::KvCache::Stub::Commit, message, reply);
    if (!status.ok()) return status;
    bool empty = false;
    for (size_t i = first; i < next; ++i) {
      if (static_cast<int>(i - first) >= reply.chunks_size()) {
        return absl::InternalError(absl::StrCat("kvtierd answered for ", reply.chunks_size(),
                                                " of ", next - first, " chunks"));
      }
      const ChunkCommit& chunk = request.chunks[i];
      auto result =
          CommitOutcome(reservation, chunk, chunk.planes.empty() ? terms.planes : chunk.planes,
                        reply.chunks(static_cast<int>(i - first)), empty);
      if (!result.ok()) return result.status();
      results.push_back(*result);
    }
    if (empty) reservations_.Erase(request.reservation);
  }
  return results;
}

absl::Status ClientCore::Abort(ReservationHandle handle) {
  const Running running(*this);
  auto record = FindReservation(handle);
  if (!record.ok()) return record.status();
  const ReservationRecord::Terms& terms = (*record)->terms();
  v1::AbortRequest message;
  message.set_session_id(terms.link->session().id);
  message.set_reservation_id(terms.daemon_id);
  v1::AbortReply reply;
  absl::Status status = Send(terms.link, &v1::KvCache::Stub::Abort, message, reply);
  if (status.ok() || absl::IsNotFound(status)) reservations_.Erase(handle);
  return status;
}

absl::StatusOr<Match> ClientCore::Lookup(const LookupRequest& request) {
  const Running running(*this);
  auto target = LinkFor(request.model);
  if (!target.ok()) return target.status();
  auto ttl_ms = Milliseconds("lease_ttl", request.lease_ttl);
  if (!ttl_ms.ok()) return ttl_ms.status();
  absl::Status status = request.lease ? leases_.CheckRoom() : absl::OkStatus();
  if (!status.ok()) {
    // Leases that nobody released end by themselves.
    leases_.EraseIf([now = absl::Now()](const LeaseRecord& lease) { return lease.expires < now; });
    if (status = leases_.CheckRoom(); !status.ok()) return status;
  }
  const LinkPointer& link = target->first;
  v1::LookupRequest message;
  message.set_session_id(link->session().id);
  message.set_model_id(target->second);
  message.set_keys(PackKeys(request.keys));
  message.set_lease(request.lease);
  message.set_lease_ttl_ms(*ttl_ms);
  v1::LookupReply reply;
  status = Send(link, &v1::KvCache::Stub::Lookup, message, reply);
  if (!status.ok()) return status;
  Match match;
  match.chunks = std::min<uint32_t>(reply.matched(), static_cast<uint32_t>(request.keys.size()));
  match.lease_ttl = absl::Milliseconds(static_cast<int64_t>(reply.lease_ttl_ms()));
  if (reply.lease_id() != 0) {
    match.lease = leases_.Add(LeaseRecord{link, reply.lease_id(), request.model.registration_,
                                          match.chunks, absl::Now() + match.lease_ttl});
  }
  return match;
}

absl::StatusOr<GetResult> ClientCore::Get(const GetRequest& request) {
  const Running running(*this);
  auto lease = FindLease(request.lease);
  if (!lease.ok()) return lease.status();
  if (request.model.registration_ != lease->model) {
    return absl::InvalidArgumentError(
        absl::StrCat("lease ", request.lease, " is of another model"));
  }
  auto result = FetchBlocks(*lease, request.blocks, options_.call_timeout);
  Learn(*lease->link, result.status());
  return result;
}

absl::StatusOr<absl::Duration> ClientCore::Renew(LeaseHandle handle, absl::Duration ttl) {
  const Running running(*this);
  auto lease = FindLease(handle);
  if (!lease.ok()) return lease.status();
  auto ttl_ms = Milliseconds("ttl", ttl);
  if (!ttl_ms.ok()) return ttl_ms.status();
  v1::RenewRequest message;
  message.set_session_id(lease->link->session().id);
  message.set_lease_id(lease->daemon_id);
  message.set_lease_ttl_ms(*ttl_ms);
  v1::RenewReply reply;
  absl::Status status = Send(lease->link, &v1::KvCache::Stub::Renew, message, reply);
  if (!status.ok()) return status;
  const absl::Duration granted = absl::Milliseconds(static_cast<int64_t>(reply.lease_ttl_ms()));
  leases_.Update(handle, [&](LeaseRecord& record) { record.expires = absl::Now() + granted; });
  return granted;
}

absl::Status ClientCore::Release(LeaseHandle handle) {
  const Running running(*this);
  auto lease = FindLease(handle);
  if (!lease.ok()) return lease.status();
  v1::ReleaseRequest message;
  message.set_session_id(lease->link->session().id);
  message.add_lease_ids(lease->daemon_id);
  v1::ReleaseReply reply;
  absl::Status status = Send(lease->link, &v1::KvCache::Stub::Release, message, reply);
  if (status.ok() || absl::IsNotFound(status)) leases_.Erase(handle);
  return status;
}

absl::Status ClientCore::Report(LeaseHandle handle, const std::vector<ReadReport>& reports) {
  const Running running(*this);
  auto lease = FindLease(handle);
  if (!lease.ok()) return lease.status();
  v1::ReportRequest message;
  message.set_session_id(lease->link->session().id);
  message.set_lease_id(lease->daemon_id);
  for (const ReadReport& report : reports) {
    auto* out = message.add_planes();
    out->set_plane(report.plane);
    out->set_steps(report.steps);
    std::string& log_mass = *out->mutable_log_mass();
    log_mass.reserve(report.mass.size());
    for (const double mass : report.mass) {
      auto level = LogMass(mass);
      if (!level.ok()) return level.status();
      log_mass.push_back(*level);
    }
  }
  v1::ReportReply reply;
  return Send(lease->link, &v1::KvCache::Stub::Report, message, reply);
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
