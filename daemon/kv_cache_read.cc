// Fetching and watching.
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "daemon/block_reader.h"
#include "daemon/copy_check.h"
#include "daemon/kv_cache_service.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

// How soon a watch notices that its client is gone; events themselves wake it at once.
constexpr absl::Duration kCancelRecheck = absl::Milliseconds(250);
constexpr size_t kEventsPerRead = 256;

absl::Status Gone() { return absl::CancelledError("the client is gone"); }

}  // namespace

grpc::Status KvCacheService::Fetch(grpc::ServerContext* context, const v1::FetchRequest* request,
                                   grpc::ServerWriter<v1::FetchReply>* writer) {
  return ServeCall(tenant_, RpcMethod::kFetch, [&]() -> absl::Status {
    KVTIER_ASSIGN_OR_RETURN(const std::unique_ptr<ByteStreams::Stream> stream,
                            byte_streams_.Open(context));
    const Caller caller = From(request->session_id());
    const LeaseId lease(request->lease_id());
    KVTIER_ASSIGN_OR_RETURN(const std::vector<PlaneIndex> planes,
                            PlanesFromNumbers(request->planes(), limits().planes_max()));
    KVTIER_ASSIGN_OR_RETURN(const uint32_t chunks, host().With([&](Engine& engine, absl::Time) {
      return engine.LeaseChunks(caller, lease);
    }));
    const uint32_t first = request->first_chunk();
    if (first >= chunks || request->chunk_count() > chunks - first) {
      return absl::InvalidArgumentError(absl::StrCat("fetch of ", request->chunk_count(),
                                                     " chunks from chunk ", first, " on; lease ",
                                                     lease.value(), " has ", chunks));
    }
    const uint32_t end = request->chunk_count() == 0 ? chunks : first + request->chunk_count();
    for (uint32_t chunk = first; chunk < end; ++chunk) {
      KVTIER_RETURN_IF_ERROR(FetchChunk(context, caller, lease, chunk, planes, *stream, writer));
    }
    return absl::OkStatus();
  });
}

absl::Status KvCacheService::FetchChunk(grpc::ServerContext* context, Caller caller, LeaseId lease,
                                        uint32_t chunk, const std::vector<PlaneIndex>& planes,
                                        ByteStreams::Stream& stream,
                                        grpc::ServerWriter<v1::FetchReply>* writer) {
  BlockReader reader(&host(), caller, lease, kPieceBytesMax);
  std::vector<PlaneIndex> present;
  if (planes.empty()) KVTIER_RETURN_IF_ERROR(reader.Planes(chunk, present));
  v1::FetchReply reply;
  for (const PlaneIndex plane : planes.empty() ? present : planes) {
    if (context->IsCancelled()) return Gone();
    reply.Clear();
    reply.set_chunk(chunk);
    reply.set_plane(plane.value());
    const absl::Status read = reader.Read(chunk, plane, [&](const BlockReader::Piece& piece) {
      reply.set_offset(piece.offset);
      // The bytes are lent to the message and taken back, so that the same memory serves every
      // piece.
      reply.mutable_data()->swap(*piece.bytes);
      reply.set_last(piece.last);
      if (piece.last) {
        reply.set_checksum(piece.checksum);
        reply.set_pool(pool_names_[piece.pool.value()]);
      }
      const uint64_t bytes = reply.data().size();
      const bool sent = writer->Write(reply);
      stream.Progress();
      reply.mutable_data()->swap(*piece.bytes);
      if (sent) tenant_.daemon->metrics->fetched_bytes.fetch_add(bytes, std::memory_order_relaxed);
      return sent;
    });
    if (read.ok()) continue;
    if (absl::IsCancelled(read)) return Gone();
    if (absl::IsDataLoss(read)) {
      log::Warn("block lost", {{"tenant", tenant_.name},
                               {"session", caller.session.value()},
                               {"reason", read.message()}});
    }
    // The other blocks are still worth having, unless the lease itself is gone: then all would fail
    // alike.
    KVTIER_RETURN_IF_ERROR(host().With(
        [&](Engine& engine, absl::Time) { return engine.LeaseChunks(caller, lease).status(); }));
    reply.Clear();
    reply.set_chunk(chunk);
    reply.set_plane(plane.value());
    reply.set_last(true);
    reply.set_code(static_cast<int32_t>(read.code()));
    reply.set_error(std::string(read.message()));
    if (!writer->Write(reply)) return Gone();
  }
  return absl::OkStatus();
}

grpc::Status KvCacheService::CheckBlock(grpc::ServerContext*, const v1::CheckBlockRequest* request,
                                        v1::CheckBlockReply* reply) {
  return ServeCall(tenant_, RpcMethod::kCheckBlock, [&]() -> absl::Status {
    const Caller caller = From(request->session_id());
    KVTIER_ASSIGN_OR_RETURN(const PlaneIndex plane, PlaneFromNumber(request->plane()));
    absl::StatusOr<ReadTarget> target;
    const EngineSection section(host(), [&](Engine& engine, absl::Time) {
      target =
          engine.ResolveWord(caller, request->row(), plane, wire::ResidencyWord(request->word()));
    });
    KVTIER_RETURN_IF_ERROR(target.status());
    const CheckedCopies checked = CheckCopies(host(), *target);
    host().With([&](Engine& engine, absl::Time) { engine.CountVerified(checked.bytes); });
    reply->set_dropped(checked.bad > 0);
    return absl::OkStatus();
  });
}

grpc::Status KvCacheService::Watch(grpc::ServerContext* context, const v1::WatchRequest* request,
                                   grpc::ServerWriter<v1::WatchReply>* writer) {
  return ServeCall(tenant_, RpcMethod::kWatch, [&]() -> absl::Status {
    KVTIER_RETURN_IF_ERROR(tenant_.daemon->drain->CheckAccepting());
    const uint32_t open = watch_streams_.fetch_add(1);
    const absl::Cleanup closed = [this] { watch_streams_.fetch_sub(1); };
    if (open >= limits().watch_streams_max()) {
      return absl::ResourceExhaustedError(absl::StrCat(open, " watch streams of tenant \"",
                                                       tenant_.name, "\" are open; the limit is ",
                                                       limits().watch_streams_max()));
    }
    std::atomic<uint64_t>& gauge = tenant_.daemon->metrics->watch_streams;
    ++gauge;
    const absl::Cleanup counted = [&gauge] { --gauge; };
    return SendEvents(context, *request, writer);
  });
}

absl::Status KvCacheService::SendEvents(grpc::ServerContext* context,
                                        const v1::WatchRequest& request,
                                        grpc::ServerWriter<v1::WatchReply>* writer) const {
  uint64_t newest = 0;
  KVTIER_RETURN_IF_ERROR(host().With([&](Engine& engine, absl::Time now) {
    newest = engine.events(tenant_.id).last_sequence();
    return engine.Heartbeat(From(request.session_id()), now);
  }));
  // The client learns now, not at the first event, that it is being served.
  writer->SendInitialMetadata();
  const auto send_gap = [&](uint64_t sequence) {
    v1::WatchReply gap;
    gap.set_kind(v1::WatchReply::GAP);
    gap.set_sequence(sequence);
    gap.set_daemon_epoch(tenant_.daemon->epoch);
    return writer->Write(gap);
  };
  uint64_t after = request.after_sequence() == 0 ? newest : request.after_sequence();
  if (after > newest) {
    // A number of an earlier daemon: what happened since then is unknown.
    if (!send_gap(newest)) return Gone();
    after = newest;
  }
  std::vector<Event> events;
  while (!context->IsCancelled()) {
    if (tenant_.daemon->drain->draining() || host().interrupted()) {
      return absl::UnavailableError("the daemon is draining");
    }
    events.clear();
    const uint64_t oldest =
        host().WaitForEvents(tenant_.id, after, kEventsPerRead, kCancelRecheck, events);
    if (after + 1 < oldest) {
      if (!send_gap(oldest - 1)) return Gone();
      after = oldest - 1;
    }
    for (const Event& event : events) {
      after = event.sequence;
      if (!request.all_models() && event.model.value() != request.model_id()) continue;
      v1::WatchReply reply = EventToProto(event);
      if (event.kind == EventKind::kMoved) reply.set_pool(pool_names_[event.pool.value()]);
      reply.set_daemon_epoch(tenant_.daemon->epoch);
      if (!writer->Write(reply)) return Gone();
    }
  }
  return Gone();
}

}  // namespace kvtier
