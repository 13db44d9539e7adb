// Reservations: what is stored.
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/client_core.h"
#include "client/in_place.h"
#include "client/request_fields.h"

namespace kvtier {
namespace {

namespace v1 = kvtier::v1;

// A Commit is split into messages of about this size.
constexpr size_t kCommitBytes = 1 << 20;

absl::Status FillHints(const WriteHints& hints, v1::Hints& out) {
  auto keep_ms = Milliseconds("keep", hints.keep);
  if (!keep_ms.ok()) return keep_ms.status();
  out.set_keep_ms(*keep_ms);
  out.set_priority(static_cast<v1::Priority>(hints.priority));
  out.set_do_not_store(hints.do_not_store);
  return absl::OkStatus();
}

}  // namespace

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
  message.set_in_place(link->memory() != nullptr);
  status = Send(link, &v1::KvCache::Stub::Reserve, message, reply);
  if (!status.ok()) return status;
  ReservationRecord::Terms terms{link,
                                 reply.reservation_id(),
                                 request.model.registration_,
                                 request.chunk_count,
                                 request.planes,
                                 {},
                                 {}};
  if (terms.planes.empty()) {
    terms.planes.resize(request.model.geometry().planes.size());
    std::iota(terms.planes.begin(), terms.planes.end(), 0);
  }
  if (reply.words_size() > 0) {
    if (!MapSlots(reply.words(), terms).ok()) {
      // Nothing can be stored in what is not mapped: give it back, and take one for streams.
      v1::AbortRequest abort;
      abort.set_session_id(link->session().id);
      abort.set_reservation_id(terms.daemon_id);
      v1::AbortReply aborted;
      status = Send(link, &v1::KvCache::Stub::Abort, abort, aborted);
      if (!status.ok()) return status;
      message.set_in_place(false);
      status = Send(link, &v1::KvCache::Stub::Reserve, message, reply);
      if (!status.ok()) return status;
      terms.daemon_id = reply.reservation_id();
    }
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
  if ((*record)->in_place()) return PutInPlace(**record, request.blocks);
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
    message.set_logical_time_us(LogicalTimeUs(*terms.link));
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

absl::Status ClientCore::MapSlots(absl::Span<const uint64_t> words,
                                  ReservationRecord::Terms& terms) {
  const size_t planes = terms.planes.size();
  if (words.size() != planes * terms.chunk_count) {
    return absl::InternalError(absl::StrCat("kvtierd gave ", words.size(), " places for ",
                                            planes * terms.chunk_count, " blocks"));
  }
  SegmentMap& map = terms.link->memory()->segments();
  std::vector<std::byte*> slots;
  slots.reserve(words.size());
  std::vector<std::shared_ptr<const MappedSegment>> segments;
  for (size_t i = 0; i < words.size(); ++i) {
    const wire::ResidencyWord word(words[i]);
    auto segment = map.GetWritable(word);
    if (!segment.ok()) return segment.status();
    std::byte* const slot = (*segment)->Address(
        word, terms.model->geometry()->planes[terms.planes[i % planes]].bytes_per_chunk);
    if (slot == nullptr) {
      return absl::InternalError(absl::StrCat("kvtierd gave slot ", word.slot(), " of segment ",
                                              word.segment(), ", which it does not have"));
    }
    slots.push_back(slot);
    // Neighbours are in one segment, mostly.
    if (segments.empty() || segments.back() != *segment) segments.push_back(*std::move(segment));
  }
  terms.slots = std::move(slots);
  terms.segments = std::move(segments);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<MutableBuffer>> ClientCore::Buffers(
    ReservationHandle handle, uint32_t chunk, const std::vector<uint32_t>& planes) {
  const Running running(*this);
  auto record = FindReservation(handle);
  if (!record.ok()) return record.status();
  ReservationRecord& reservation = **record;
  if (!reservation.in_place()) {
    return absl::FailedPreconditionError(
        absl::StrCat("reservation ", handle, " is not in place: Put its blocks"));
  }
  const ModelGeometry& geometry = *reservation.terms().model->geometry();
  std::vector<MutableBuffer> buffers;
  for (const uint32_t plane : planes.empty() ? reservation.terms().planes : planes) {
    if (absl::Status status = reservation.CheckBlock(chunk, plane); !status.ok()) return status;
    auto slot = reservation.HandOut(chunk, plane);
    if (!slot.ok()) return slot.status();
    buffers.push_back({*slot, geometry.planes[plane].bytes_per_chunk});
  }
  return buffers;
}

}  // namespace kvtier
