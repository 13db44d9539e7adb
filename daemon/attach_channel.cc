#include "daemon/attach_channel.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/log.h"
#include "proto/wire/client_page.h"
#include "tiering/base/copy_ref.h"
#include "tiering/base/status_macros.h"
#include "tiering/host/memfd_access.h"

namespace kvtier {
namespace {

absl::Status Violation(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("the client broke the protocol: ", what));
}

absl::Status CannotSend() {
  return absl::UnavailableError("the client does not take what it asked for");
}

// Filled at once: a millisecond or two, of the 20 that 64 MiB take, in which nobody else is served.
constexpr Bytes kFillBytes = MiB(4);

absl::Status OpenFor(const SharedRegion& region, OwnedFd& fd) {
  KVTIER_ASSIGN_OR_RETURN(fd, region.Fd());
  return absl::OkStatus();
}

// The segment that three numbers of a client name, as a word of its first slot.
absl::StatusOr<wire::ResidencyWord> NamedSegment(uint32_t pool, uint32_t segment,
                                                 uint32_t incarnation) {
  if (pool >= CopyRef::kPoolsMax || segment >= CopyRef::kSegmentsMax || incarnation == 0 ||
      incarnation > wire::ResidencyWord::kIncarnationMax) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "no segment is named by pool %d, segment %d, incarnation %d", pool, segment, incarnation));
  }
  return wire::ResidencyWord(pool << 28 | segment << 14, incarnation);
}

}  // namespace

absl::Status AttachChannel::Serve() {
  AttachRequest request;
  absl::string_view reason;
  switch (ReceiveRequest(socket_.get(), request, reason)) {
    case Receipt::kRequest:
      break;
    case Receipt::kNothing:
      return absl::OkStatus();
    case Receipt::kEnd:
      Close();
      return absl::OkStatus();
    case Receipt::kInvalid:
      return Violation(reason);
  }
  // One request at a time: so nobody makes the kernel keep descriptors in flight by not reading.
  if (working() || !AllTaken(socket_.get()))
    return Violation("a request before the last reply was taken");
  if (const auto* hello = std::get_if<wire::HelloRequest>(&request)) return Hello(*hello);
  if (!client_) return Violation("a request before the first one, which attaches");
  if (std::holds_alternative<wire::Goodbye>(request)) {
    life_.SaidGoodbye();
    // A child of the client's may hold the other end open for ever.
    Close();
    return absl::OkStatus();
  }
  if (const auto* segment = std::get_if<wire::SegmentRequest>(&request)) return Segment(*segment);
  return Mapped(std::get<wire::SegmentMapped>(request));
}

void AttachChannel::Close() {
  if (!socket_.valid()) return;
  socket_.Close();
  ReturnGrant();
  life_.SocketClosed();
}

void AttachChannel::End() {
  if (!client_) return;
  memory_->host->With([&](Engine& engine, absl::Time) { engine.EndShared(*client_); });
  client_.reset();
  page_.reset();
}

absl::Status AttachChannel::Hello(const wire::HelloRequest& request) {
  if (client_ || resumes()) return Violation("it attaches twice");
  absl::Status admitted = CheckHello(request);
  if (admitted.ok() && request.resume != 0) {
    session_ = SessionId(request.session_id);
    wants_to_resume_ = true;
    return absl::OkStatus();  // whoever has all channels answers
  }
  if (admitted.ok()) admitted = Admit(request);
  wire::HelloReply reply;
  OwnedFd fds[2];
  const SharedRegion& index = *memory_->indexes[peer_.tenant.value()];
  if (admitted.ok()) admitted = OpenFor(index, fds[0]);
  if (admitted.ok()) admitted = OpenFor(*page_, fds[1]);
  if (admitted.ok()) {
    page_->CloseFd();
    reply.index_bytes = index.memory().size();
    reply.client_page_bytes = page_->memory().size();
  }
  SetStatus(admitted, reply);
  const int numbers[] = {fds[0].get(), fds[1].get()};
  const bool sent =
      SendMessage(socket_.get(), reply, absl::MakeConstSpan(numbers, admitted.ok() ? 2 : 0));
  // Who was given nothing holds nothing.
  if (!sent || !admitted.ok()) {
    End();
    page_watch_.reset();
  }
  return sent ? admitted : CannotSend();
}

absl::Status AttachChannel::CheckHello(const wire::HelloRequest& request) const {
  if (request.magic != wire::kAttachMagic) {
    return absl::InvalidArgumentError(absl::StrFormat("magic %016x of the client is not %016x",
                                                      request.magic, wire::kAttachMagic));
  }
  if (request.major != wire::kAttachMajor) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the client speaks version %d.%d of the attach protocol, this daemon %d.%d",
                        request.major, request.minor, wire::kAttachMajor, wire::kAttachMinor));
  }
  if (request.daemon_epoch != memory_->daemon_epoch) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "the session is of another daemon: its epoch was %016x, this one's is %016x",
        request.daemon_epoch, memory_->daemon_epoch));
  }
  return absl::OkStatus();
}

absl::Status AttachChannel::Admit(const wire::HelloRequest& request) {
  KVTIER_RETURN_IF_ERROR(memory_->drain->CheckAccepting());
  const Caller caller{peer_.tenant, SessionId(request.session_id)};
  const std::optional<pid_t> owner = memory_->watcher->ProcessOf(caller.tenant, caller.session);
  if (owner && *owner != peer_.pid) {
    return absl::PermissionDeniedError(
        absl::StrFormat("session %d belongs to process %d, not to process %d",
                        caller.session.value(), *owner, peer_.pid));
  }
  if (!peer_.process.valid()) {
    return absl::FailedPreconditionError(
        "nothing tells when this process ends: it has no pid that this daemon knows");
  }
  KVTIER_ASSIGN_OR_RETURN(page_,
                          SharedRegion::Create("kvtier-client", Bytes(wire::kClientPageBytes),
                                               SharedRegion::Writers::kClients));
  if (memory_->pages != nullptr) {
    KVTIER_ASSIGN_OR_RETURN(const OwnedFd fd, page_->Fd());
    KVTIER_ASSIGN_OR_RETURN(page_watch_, memory_->pages->Add("kvtier-client", fd.get()));
  }
  // All zeroes, and only what is used of it takes memory.
  auto* page = reinterpret_cast<wire::ClientPage*>(page_->memory().data());
  page->magic = wire::kClientPageMagic;
  KVTIER_ASSIGN_OR_RETURN(client_, memory_->host->With([&](Engine& engine, absl::Time) {
    return engine.AttachShared(caller, page);
  }));
  session_ = caller.session;
  log::TenantInfo(memory_->tenants[peer_.tenant.value()], "shared memory attached",
                  {{"session", caller.session.value()},
                   {"tenant", memory_->tenants[peer_.tenant.value()]},
                   {"pid", peer_.pid}});
  return absl::OkStatus();
}

bool AttachChannel::MayGoOnAs(const AttachChannel& asking) const {
  if (!client_ || life_.gone() || tenant() != asking.tenant() || session_ != asking.session_)
    return false;
  // The same process, which has not ended: then its number was not given to another one.
  pollfd ended{.fd = process(), .events = POLLIN, .revents = 0};
  return pid() > 0 && pid() == asking.pid() && poll(&ended, 1, 0) == 0;
}

absl::Status AttachChannel::GoOnAs(AttachChannel& asking) {
  Close();
  socket_ = std::move(asking.socket_);
  life_.SocketOpened();
  resumed_ = true;
  return SendMessage(socket_.get(), wire::HelloReply()) ? absl::OkStatus() : CannotSend();
}

absl::Status AttachChannel::RefuseToResume() {
  wire::HelloReply reply;
  const absl::Status refused = absl::NotFoundError(absl::StrFormat(
      "process %d has no shared memory of session %d to go on with", pid(), session_.value()));
  SetStatus(refused, reply);
  (void)SendMessage(socket_.get(), reply);
  return refused;
}

absl::Status AttachChannel::Segment(const wire::SegmentRequest& request) {
  // A client that could not map the last one asks for the next.
  ReturnGrant();
  const bool writable = request.access == wire::SegmentAccess::kWrite;
  if (!writable && request.access != wire::SegmentAccess::kRead)
    return Violation("a segment for neither reading nor writing");
  wire::SegmentReply reply;
  absl::StatusOr<OwnedFd> fd;
  const absl::StatusOr<wire::ResidencyWord> word =
      NamedSegment(request.pool, request.segment, request.incarnation);
  if (!word.ok()) fd = word.status();
  // Under one lock: between the engine's word and the descriptor the segment could be released.
  if (word.ok()) {
    memory_->host->With([&](Engine& engine, absl::Time) {
      const absl::StatusOr<SegmentGrant> granted = engine.GrantSegment(*client_, *word, writable);
      if (!granted.ok()) {
        fd = granted.status();
        return;
      }
      fd = Open(*granted, *word);
      if (!fd.ok() && writable) (void)engine.SegmentReturned(*client_, *word);
      SetText(memory_->pools[granted->pool.value()]->description().name, reply);
      reply.slot_bytes = static_cast<uint64_t>(granted->slot_bytes.count());
      reply.segment_bytes =
          static_cast<uint64_t>(memory_->pools[granted->pool.value()]->segment_bytes().count());
    });
  }
  if (!fd.ok()) SetStatus(fd.status(), reply);
  const int number = fd.ok() ? fd->get() : -1;
  if (!SendMessage(socket_.get(), reply, absl::MakeConstSpan(&number, fd.ok() ? 1 : 0)))
    return CannotSend();
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> AttachChannel::Open(const SegmentGrant& granted, wire::ResidencyWord word) {
  HostPool& pool = *memory_->pools[granted.pool.value()];
  if (!granted.writable) {
    // What was not a client's inbox is sealed before anybody else sees it.
    KVTIER_RETURN_IF_ERROR(pool.Seal(granted.segment));
    return pool.OpenForReading(granted.segment);
  }
  KVTIER_ASSIGN_OR_RETURN(OwnedFd kept, pool.OpenForWriting(granted.segment));
  KVTIER_ASSIGN_OR_RETURN(OwnedFd given, pool.OpenForWriting(granted.segment));
  grant_ = Grant{.word = word, .pool = granted.pool, .fd = std::move(kept)};
  return given;
}

absl::Status AttachChannel::Mapped(const wire::SegmentMapped& request) {
  const absl::StatusOr<wire::ResidencyWord> word =
      NamedSegment(request.pool, request.segment, request.incarnation);
  if (!word.ok()) return Violation("it mapped a segment that no numbers name");
  if (!grant_ || *word != grant_->word) return MappedBefore(*word);
  grant_->filled = Bytes(0);
  return Work();
}

absl::Status AttachChannel::Work() {
  // The descriptor that was given, whatever the pool has under that number by now.
  const int fd = grant_->fd.get();
  const HostPool& pool = *memory_->pools[grant_->pool.value()];
  const std::string& name = pool.description().name;
  const Bytes whole = pool.segment_bytes();
  // What may fail for want of memory comes before the seal, which cannot be taken back.
  absl::Status ready;
  if (*grant_->filled < whole && HasHoles(fd, whole)) {
    const Bytes slice = std::min(kFillBytes, whole - *grant_->filled);
    ready = FillHoles(name, fd, *grant_->filled, slice);
    *grant_->filled = *grant_->filled + slice;
    if (ready.ok() && *grant_->filled < whole) return absl::OkStatus();
  }
  if (ready.ok()) {
    KVTIER_RETURN_IF_ERROR(SealFromWriting(name, fd));
    // Until then the client could punch holes; from here on the daemon reads it.
    if (HasHoles(fd, whole))
      return Violation("it gave memory of a segment back that it had mapped");
    ready = memory_->host->With(
        [&](Engine& engine, absl::Time) { return engine.SegmentSealed(*client_, grant_->word); });
  }
  if (ready.ok()) grant_.reset();
  ReturnGrant();
  wire::SegmentSealed reply;
  reply.code = static_cast<uint32_t>(ready.code());
  if (!SendMessage(socket_.get(), reply)) return CannotSend();
  return absl::OkStatus();
}

absl::Status AttachChannel::MappedBefore(wire::ResidencyWord word) {
  const absl::Status sealed = memory_->host->With(
      [&](Engine& engine, absl::Time) { return engine.CheckSealed(*client_, word); });
  // A client whose socket broke before it got the answer asks again.
  if (!sealed.ok() && !resumed_) return Violation("it mapped a segment that it was not given");
  wire::SegmentSealed reply;
  reply.code = static_cast<uint32_t>(sealed.code());
  return SendMessage(socket_.get(), reply) ? absl::OkStatus() : CannotSend();
}

void AttachChannel::ReturnGrant() {
  if (!grant_) return;
  // It is an error when the inbox is gone, which is as good.
  memory_->host->With(
      [&](Engine& engine, absl::Time) { (void)engine.SegmentReturned(*client_, grant_->word); });
  grant_.reset();
}

}  // namespace kvtier
