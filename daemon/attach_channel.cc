#include "daemon/attach_channel.h"

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
  if (!AllTaken(socket_.get())) return Violation("a request before the last reply was taken");
  if (const auto* hello = std::get_if<wire::HelloRequest>(&request)) return Hello(*hello);
  if (!client_) return Violation("a request before the first one, which attaches");
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
  if (client_) return Violation("it attaches twice");
  wire::HelloReply reply;
  const absl::Status admitted = Admit(request);
  OwnedFd fds[2];
  if (admitted.ok()) {
    const SharedRegion& index = *memory_->indexes[peer_.tenant.value()];
    KVTIER_ASSIGN_OR_RETURN(fds[0], index.Fd());
    KVTIER_ASSIGN_OR_RETURN(fds[1], page_->Fd());
    page_->CloseFd();
    reply.index_bytes = index.memory().size();
    reply.client_page_bytes = page_->memory().size();
  }
  SetStatus(admitted, reply);
  const int numbers[] = {fds[0].get(), fds[1].get()};
  if (!SendMessage(socket_.get(), reply, absl::MakeConstSpan(numbers, admitted.ok() ? 2 : 0))) {
    return CannotSend();
  }
  return admitted;
}

absl::Status AttachChannel::Admit(const wire::HelloRequest& request) {
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
  // All zeroes, and only what is used of it takes memory.
  auto* page = reinterpret_cast<wire::ClientPage*>(page_->memory().data());
  page->magic = wire::kClientPageMagic;
  KVTIER_ASSIGN_OR_RETURN(client_, memory_->host->With([&](Engine& engine, absl::Time) {
    return engine.AttachShared(caller, page);
  }));
  log::TenantInfo(memory_->tenants[peer_.tenant.value()], "shared memory attached",
                  {{"session", caller.session.value()},
                   {"tenant", memory_->tenants[peer_.tenant.value()]},
                   {"pid", peer_.pid}});
  return absl::OkStatus();
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
  if (!grant_ || !word.ok() || *word != grant_->word)
    return Violation("it mapped a segment that it was not given");
  // The descriptor that was given, whatever the pool has under that number by now.
  const int fd = grant_->fd.get();
  const HostPool& pool = *memory_->pools[grant_->pool.value()];
  // What may fail for want of memory comes before the seal, which cannot be taken back.
  absl::Status ready = FillHoles(pool.description().name, fd, pool.segment_bytes());
  if (ready.ok()) {
    KVTIER_RETURN_IF_ERROR(SealFromWriting(pool.description().name, fd));
    // Until then the client could punch holes; from here on the daemon reads it.
    if (HasHoles(fd, pool.segment_bytes()))
      return Violation("it gave memory of a segment back that it had mapped");
    ready = memory_->host->With(
        [&](Engine& engine, absl::Time) { return engine.SegmentSealed(*client_, *word); });
  }
  if (ready.ok()) grant_.reset();
  ReturnGrant();
  wire::SegmentSealed reply;
  reply.code = static_cast<uint32_t>(ready.code());
  if (!SendMessage(socket_.get(), reply)) return CannotSend();
  return absl::OkStatus();
}

void AttachChannel::ReturnGrant() {
  if (!grant_) return;
  // It is an error when the inbox is gone, which is as good.
  memory_->host->With(
      [&](Engine& engine, absl::Time) { (void)engine.SegmentReturned(*client_, grant_->word); });
  grant_.reset();
}

}  // namespace kvtier
