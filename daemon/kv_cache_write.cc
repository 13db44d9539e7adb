// Reserving, storing and committing.
#include <cstring>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/kv_cache_service.h"
#include "proto/wire/checksum.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

absl::Status NoAddress(const WriteTarget& target) {
  return absl::UnimplementedError(absl::StrCat("pool ", target.slot.pool.value(),
                                               " has no address that bytes could be stored to"));
}

v1::CommitReply::Outcome OutcomeToProto(CommitOutcome outcome) {
  switch (outcome) {
    case CommitOutcome::kCommitted:
      return v1::CommitReply::COMMITTED;
    case CommitOutcome::kPartial:
      return v1::CommitReply::PARTIAL;
    case CommitOutcome::kAlreadyExists:
      return v1::CommitReply::ALREADY_EXISTS;
  }
  return v1::CommitReply::OUTCOME_UNSPECIFIED;
}

}  // namespace

grpc::Status KvCacheService::Reserve(grpc::ServerContext*, const v1::ReserveRequest* request,
                                     v1::ReserveReply* reply) {
  return ServeCall(tenant_, RpcMethod::kReserve, [&]() -> absl::Status {
    KVTIER_RETURN_IF_ERROR(tenant_.daemon->drain->CheckAccepting());
    KVTIER_RETURN_IF_ERROR(CheckHints(request->hints()));
    ReserveArgs args;
    KVTIER_ASSIGN_OR_RETURN(args.model, ModelFromNumber(request->model_id()));
    KVTIER_ASSIGN_OR_RETURN(args.parent, KeyFromBytes(request->parent_key(), "parent_key", true));
    KVTIER_ASSIGN_OR_RETURN(args.planes,
                            PlanesFromNumbers(request->planes(), limits().planes_max()));
    args.chunk_count = request->chunk_count();
    args.in_place = request->in_place();
    const Caller caller = From(request->session_id());
    std::vector<uint64_t> words;
    KVTIER_ASSIGN_OR_RETURN(
        const ReservationId reservation,
        host().With([&](Engine& engine, absl::Time now) -> absl::StatusOr<ReservationId> {
          KVTIER_ASSIGN_OR_RETURN(const ReservationId made, engine.Reserve(caller, args, now));
          if (!args.in_place) return made;
          KVTIER_ASSIGN_OR_RETURN(const ReservationInfo info, engine.Describe(caller, made));
          if (info.in_place) KVTIER_RETURN_IF_ERROR(engine.ReservationWords(caller, made, words));
          return made;
        }));
    reply->set_reservation_id(reservation.value());
    reply->mutable_words()->Add(words.begin(), words.end());
    return absl::OkStatus();
  });
}

grpc::Status KvCacheService::Store(grpc::ServerContext* context,
                                   grpc::ServerReader<v1::StoreRequest>* reader,
                                   v1::StoreReply* reply) {
  return ServeCall(tenant_, RpcMethod::kStore, [&]() -> absl::Status {
    KVTIER_ASSIGN_OR_RETURN(const std::unique_ptr<ByteStreams::Stream> stream,
                            byte_streams_.Open(context));
    v1::StoreRequest request;
    uint64_t stored = 0;
    while (reader->Read(&request)) {
      stream->Progress();
      KVTIER_RETURN_IF_ERROR(StorePiece(request));
      stored += request.data().size();
      tenant_.daemon->metrics->stored_bytes.fetch_add(request.data().size(),
                                                      std::memory_order_relaxed);
    }
    reply->set_stored_bytes(stored);
    return absl::OkStatus();
  });
}

absl::Status KvCacheService::StorePiece(const v1::StoreRequest& request) {
  KVTIER_ASSIGN_OR_RETURN(const PlaneIndex plane, PlaneFromNumber(request.plane()));
  const std::shared_lock<std::shared_mutex> writing(
      ChunkLock(request.reservation_id(), request.chunk()));
  absl::StatusOr<WriteTarget> target;
  const EngineSection section(host(), [&](Engine& engine, absl::Time now) {
    const Caller caller = From(request.session_id());
    // Whoever writes lives, however long it takes. If the session ended, Target says so.
    (void)engine.Heartbeat(caller, now);
    target = engine.Target(caller, ReservationId(request.reservation_id()), request.chunk(), plane);
  });
  KVTIER_RETURN_IF_ERROR(target.status());
  if (target->address == nullptr) return NoAddress(*target);
  const uint64_t block_bytes = static_cast<uint64_t>(target->bytes.count());
  const uint64_t data_bytes = request.data().size();
  if (data_bytes > block_bytes || request.offset() > block_bytes - data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("store into chunk %d, plane %d of reservation %d: %d bytes at offset %d, "
                        "but the block has %d bytes",
                        request.chunk(), request.plane(), request.reservation_id(), data_bytes,
                        request.offset(), block_bytes));
  }
  // Cached stores: the bytes are read again when the chunk is committed.
  if (data_bytes > 0)
    std::memcpy(target->address + request.offset(), request.data().data(), data_bytes);
  return absl::OkStatus();
}

grpc::Status KvCacheService::Commit(grpc::ServerContext*, const v1::CommitRequest* request,
                                    v1::CommitReply* reply) {
  return ServeCall(tenant_, RpcMethod::kCommit, [&]() -> absl::Status {
    const Caller caller = From(request->session_id());
    const ReservationId reservation(request->reservation_id());
    if (static_cast<uint32_t>(request->chunks_size()) > limits().chunks_per_call_max()) {
      return absl::InvalidArgumentError(
          absl::StrCat("a commit of ", request->chunks_size(), " chunks; at most ",
                       limits().chunks_per_call_max(), " are allowed in a call"));
    }
    absl::StatusOr<ReservationInfo> info;
    absl::StatusOr<wire::KeyScope> scope;
    absl::Status time;
    host().With([&](Engine& engine, absl::Time now) {
      info = engine.Describe(caller, reservation);
      if (info.ok()) scope = engine.Scope(caller, info->model);
      if (info.ok()) time = TakeLogicalTime(engine, caller, request->logical_time_us(), now);
    });
    KVTIER_RETURN_IF_ERROR(info.status());
    KVTIER_RETURN_IF_ERROR(time);
    KVTIER_RETURN_IF_ERROR(scope.status());
    for (const v1::CommitChunk& chunk : request->chunks()) {
      v1::CommitReply::Chunk* result = reply->add_chunks();
      wire::ChunkKey key;
      const absl::StatusOr<CommitOutcome> outcome =
          CommitChunk(caller, reservation, *info, *scope, chunk, &key);
      if (!key.is_zero()) result->set_key(KeyToBytes(key));
      if (outcome.ok()) {
        result->set_outcome(OutcomeToProto(*outcome));
        continue;
      }
      result->set_outcome(v1::CommitReply::FAILED);
      result->set_code(static_cast<int32_t>(outcome.status().code()));
      result->set_error(std::string(outcome.status().message()));
      break;
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<CommitOutcome> KvCacheService::CommitChunk(Caller caller, ReservationId reservation,
                                                          const ReservationInfo& info,
                                                          const wire::KeyScope& scope,
                                                          const v1::CommitChunk& chunk,
                                                          wire::ChunkKey* key) {
  CommitArgs args;
  args.chunk = chunk.chunk();
  args.token_count = chunk.token_count();
  KVTIER_ASSIGN_OR_RETURN(const NamedChunk named,
                          NameToKey(chunk.name(), scope, chunk.token_count()));
  args.key = named.key;
  args.parent = named.parent;
  *key = named.key;
  KVTIER_ASSIGN_OR_RETURN(
      args.planes, PlanesFromNumbers(chunk.planes(), static_cast<uint32_t>(info.planes.size())));
  args.checksums.assign(chunk.checksums().begin(), chunk.checksums().end());
  const size_t plane_count = args.planes.empty() ? info.planes.size() : args.planes.size();
  if (args.checksums.size() != plane_count) {
    return absl::InvalidArgumentError(
        absl::StrFormat("commit of chunk %d of reservation %d: %d checksums for %d planes",
                        args.chunk, reservation.value(), args.checksums.size(), plane_count));
  }
  CommitOutcome outcome = CommitOutcome::kPartial;
  KVTIER_RETURN_IF_ERROR(VerifyAndCommit(caller, reservation, info, args, &outcome));
  return outcome;
}

absl::Status KvCacheService::VerifyAndCommit(Caller caller, ReservationId reservation,
                                             const ReservationInfo& info, const CommitArgs& args,
                                             CommitOutcome* outcome) {
  // Whoever wrote in place can write on: no check here would vouch for what a reader finds.
  if (info.in_place) return CommitUnverified(caller, reservation, args, outcome);
  const std::vector<PlaneIndex>& planes = args.planes.empty() ? info.planes : args.planes;
  // Alone: nobody writes between the check and the publication, and nobody can afterwards.
  const std::unique_lock<std::shared_mutex> committing(ChunkLock(reservation.value(), args.chunk));
  std::vector<WriteTarget> targets;
  absl::Status found;
  const EngineSection section(host(), [&](Engine& engine, absl::Time) {
    for (size_t i = 0; i < planes.size() && found.ok(); ++i) {
      absl::StatusOr<WriteTarget> target =
          engine.Target(caller, reservation, args.chunk, planes[i]);
      found = target.status();
      if (target.ok()) targets.push_back(*target);
    }
  });
  KVTIER_RETURN_IF_ERROR(found);
  Bytes verified;
  for (size_t i = 0; i < targets.size(); ++i) {
    const WriteTarget& target = targets[i];
    if (target.address == nullptr) return NoAddress(target);
    const uint64_t stored = wire::BlockChecksum(
        absl::MakeConstSpan(target.address, static_cast<size_t>(target.bytes.count())));
    if (stored != args.checksums[i]) {
      // Not what it is: a slot's former bytes are none of the caller's business.
      return absl::DataLossError(absl::StrFormat(
          "commit of chunk %d of reservation %d, plane %d: the %d stored bytes do not have the "
          "checksum %016x that the commit says; nothing of the chunk was committed",
          args.chunk, reservation.value(), planes[i].value(), target.bytes.count(),
          args.checksums[i]));
    }
    verified += target.bytes;
  }
  return host().With([&](Engine& engine, absl::Time now) -> absl::Status {
    engine.CountVerified(verified);
    KVTIER_ASSIGN_OR_RETURN(*outcome, engine.Commit(caller, reservation, args, now));
    return absl::OkStatus();
  });
}

absl::Status KvCacheService::CommitUnverified(Caller caller, ReservationId reservation,
                                              const CommitArgs& args, CommitOutcome* outcome) {
  return host().With([&](Engine& engine, absl::Time now) -> absl::Status {
    KVTIER_ASSIGN_OR_RETURN(*outcome, engine.Commit(caller, reservation, args, now));
    return absl::OkStatus();
  });
}

grpc::Status KvCacheService::Abort(grpc::ServerContext*, const v1::AbortRequest* request,
                                   v1::AbortReply*) {
  return ServeCall(tenant_, RpcMethod::kAbort, [&]() -> absl::Status {
    return host().With([&](Engine& engine, absl::Time) {
      return engine.Abort(From(request->session_id()), ReservationId(request->reservation_id()));
    });
  });
}

}  // namespace kvtier
