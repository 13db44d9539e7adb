// Sessions, models, lookups and hints; kv_cache_write.cc and kv_cache_read.cc have the rest.
#include "daemon/kv_cache_service.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

constexpr size_t kClientNameBytesMax = 128;
// Two may get lost before a session ends.
constexpr uint64_t kHeartbeatsPerTimeout = 3;

// A quarter of what watches leave is for calls that end by themselves.
uint32_t ByteStreamsMax(const v1::LimitsConfig& limits) {
  const uint32_t threads = limits.rpc_threads_max() - limits.watch_streams_max();
  return std::max(1u, threads - threads / 4);
}

}  // namespace

KvCacheService::KvCacheService(TenantContext tenant)
    : tenant_(std::move(tenant)),
      byte_streams_({.tenant = tenant_.name,
                     .streams_max = ByteStreamsMax(limits()),
                     .stall_max = absl::Milliseconds(limits().session_timeout_ms())}) {
  for (const v1::PoolConfig& pool : tenant_.daemon->config->pools())
    pool_names_.push_back(pool.name());
}

grpc::Status KvCacheService::Attach(grpc::ServerContext*, const v1::AttachRequest* request,
                                    v1::AttachReply* reply) {
  return ServeCall(tenant_, RpcMethod::kAttach, [&]() -> absl::Status {
    KVTIER_RETURN_IF_ERROR(CheckVersion(request->version(), "client"));
    if (request->client_name().size() > kClientNameBytesMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("client_name has ", request->client_name().size(), " bytes; at most ",
                       kClientNameBytesMax, " are allowed"));
    }
    KVTIER_RETURN_IF_ERROR(tenant_.daemon->drain->CheckAccepting());
    KVTIER_ASSIGN_OR_RETURN(const SessionId session,
                            host().With([&](Engine& engine, absl::Time now) {
                              return engine.Attach(tenant_.id, now);
                            }));
    const bool bound = tenant_.daemon->watcher->BindSession(tenant_.id, request->pid(), session);
    *reply->mutable_version() = ProtocolVersion();
    reply->set_session_id(session.value());
    reply->set_daemon_epoch(tenant_.daemon->epoch);
    reply->set_heartbeat_interval_ms(limits().session_timeout_ms() / kHeartbeatsPerTimeout);
    reply->set_session_timeout_ms(limits().session_timeout_ms());
    reply->set_tenant(tenant_.name);
    reply->set_tenant_salt(tenant_.salt);
    reply->set_bound_to_process(bound);
    reply->set_message_bytes_max(kMessageBytesMax);
    reply->set_shared_memory_socket(tenant_.daemon->shared_memory_socket);
    reply->set_takes_logical_time(tenant_.daemon->config->policy().logical_time());
    log::TenantInfo(tenant_.name, "session attached",
                    {{"session", session.value()},
                     {"tenant", tenant_.name},
                     {"client", request->client_name()},
                     {"pid", request->pid()},
                     {"bound_to_process", bound}});
    return absl::OkStatus();
  });
}

grpc::Status KvCacheService::Heartbeat(grpc::ServerContext*, const v1::HeartbeatRequest* request,
                                       v1::HeartbeatReply* reply) {
  return ServeCall(tenant_, RpcMethod::kHeartbeat, [&]() -> absl::Status {
    byte_streams_.CancelStalled();
    reply->set_draining(tenant_.daemon->drain->draining());
    return host().With([&](Engine& engine, absl::Time now) {
      return engine.Heartbeat(From(request->session_id()), now);
    });
  });
}

grpc::Status KvCacheService::Detach(grpc::ServerContext*, const v1::DetachRequest* request,
                                    v1::DetachReply*) {
  return ServeCall(tenant_, RpcMethod::kDetach, [&]() -> absl::Status {
    const Caller caller = From(request->session_id());
    KVTIER_RETURN_IF_ERROR(
        host().With([&](Engine& engine, absl::Time) { return engine.Detach(caller); }));
    tenant_.daemon->watcher->UnbindSession(tenant_.id, caller.session);
    log::TenantInfo(tenant_.name, "session detached",
                    {{"session", caller.session.value()}, {"tenant", tenant_.name}});
    return absl::OkStatus();
  });
}

grpc::Status KvCacheService::RegisterModel(grpc::ServerContext*,
                                           const v1::RegisterModelRequest* request,
                                           v1::RegisterModelReply* reply) {
  return ServeCall(tenant_, RpcMethod::kRegisterModel, [&]() -> absl::Status {
    KVTIER_ASSIGN_OR_RETURN(const ModelSpec spec,
                            ModelFromProto(request->model(), limits().planes_max()));
    KVTIER_ASSIGN_OR_RETURN(const RegisteredModel model,
                            host().With([&](Engine& engine, absl::Time) {
                              return engine.RegisterModel(From(request->session_id()), spec);
                            }));
    reply->set_model_id(model.id.value());
    reply->set_fingerprint(model.fingerprint.data(), model.fingerprint.size());
    return absl::OkStatus();
  });
}

absl::Status KvCacheService::TakeLogicalTime(Engine& engine, Caller caller,
                                             uint64_t logical_time_us, absl::Time now) const {
  if (logical_time_us == 0 || !tenant_.daemon->config->policy().logical_time())
    return absl::OkStatus();
  constexpr uint64_t kMicrosecondsMax = std::numeric_limits<int64_t>::max();
  const auto microseconds = static_cast<int64_t>(std::min(logical_time_us, kMicrosecondsMax));
  return engine.SetLogicalTime(caller, absl::Microseconds(microseconds), now);
}

absl::StatusOr<std::vector<wire::ChunkKey>> KvCacheService::LookupKeys(
    Caller caller, ModelId model, const v1::LookupRequest& request) const {
  const uint32_t keys_max = limits().chunks_per_call_max();
  if (request.names().empty()) return KeysFromBytes(request.keys(), keys_max);
  if (!request.keys().empty())
    return absl::InvalidArgumentError("keys and names are both given; one is expected");
  if (static_cast<uint32_t>(request.names_size()) > keys_max) {
    return absl::InvalidArgumentError(absl::StrCat(
        request.names_size(), " chunks are named; at most ", keys_max, " are allowed in a call"));
  }
  KVTIER_ASSIGN_OR_RETURN(const wire::KeyScope scope, host().With([&](Engine& engine, absl::Time) {
    return engine.Scope(caller, model);
  }));
  std::vector<wire::ChunkKey> keys;
  keys.reserve(static_cast<size_t>(request.names_size()));
  for (const v1::ChunkName& name : request.names()) {
    KVTIER_ASSIGN_OR_RETURN(const NamedChunk chunk, NameToKey(name, scope, std::nullopt));
    keys.push_back(chunk.key);
  }
  return keys;
}

grpc::Status KvCacheService::Lookup(grpc::ServerContext*, const v1::LookupRequest* request,
                                    v1::LookupReply* reply) {
  return ServeCall(tenant_, RpcMethod::kLookup, [&]() -> absl::Status {
    const Caller caller = From(request->session_id());
    KVTIER_ASSIGN_OR_RETURN(const ModelId model, ModelFromNumber(request->model_id()));
    std::optional<absl::Duration> ttl;
    if (request->lease()) {
      KVTIER_RETURN_IF_ERROR(tenant_.daemon->drain->CheckAccepting());
      ttl = LeaseTtl(request->lease_ttl_ms(), absl::Milliseconds(limits().lease_ttl_max_ms()));
    }
    KVTIER_ASSIGN_OR_RETURN(const std::vector<wire::ChunkKey> keys,
                            LookupKeys(caller, model, *request));
    // Rows are told under the same lock: what is leased stays where they say, or is gone.
    std::vector<uint64_t> rows;
    KVTIER_ASSIGN_OR_RETURN(
        const LookupResult result,
        host().With([&](Engine& engine, absl::Time now) -> absl::StatusOr<LookupResult> {
          KVTIER_RETURN_IF_ERROR(TakeLogicalTime(engine, caller, request->logical_time_us(), now));
          KVTIER_ASSIGN_OR_RETURN(const LookupResult found,
                                  engine.Lookup(caller, model, keys, ttl, now));
          if (found.lease != LeaseId())
            KVTIER_RETURN_IF_ERROR(engine.LeaseRows(caller, found.lease, rows));
          return found;
        }));
    reply->mutable_rows()->Add(rows.begin(), rows.end());
    reply->set_matched(result.matched);
    reply->set_lease_id(result.lease.value());
    reply->set_lease_ttl_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(result.lease_ttl)));
    return absl::OkStatus();
  });
}

grpc::Status KvCacheService::Renew(grpc::ServerContext*, const v1::RenewRequest* request,
                                   v1::RenewReply* reply) {
  return ServeCall(tenant_, RpcMethod::kRenew, [&]() -> absl::Status {
    const absl::Duration ttl =
        LeaseTtl(request->lease_ttl_ms(), absl::Milliseconds(limits().lease_ttl_max_ms()));
    KVTIER_ASSIGN_OR_RETURN(
        const absl::Duration granted, host().With([&](Engine& engine, absl::Time now) {
          return engine.Renew(From(request->session_id()), LeaseId(request->lease_id()), ttl, now);
        }));
    reply->set_lease_ttl_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(granted)));
    return absl::OkStatus();
  });
}

grpc::Status KvCacheService::Release(grpc::ServerContext*, const v1::ReleaseRequest* request,
                                     v1::ReleaseReply* reply) {
  return ServeCall(tenant_, RpcMethod::kRelease, [&]() -> absl::Status {
    const uint32_t leases_max = limits().chunks_per_call_max();
    if (static_cast<uint32_t>(request->lease_ids_size()) > leases_max) {
      return absl::InvalidArgumentError(absl::StrCat(request->lease_ids_size(),
                                                     " leases are named; at most ", leases_max,
                                                     " are allowed in a call"));
    }
    const Caller caller = From(request->session_id());
    return host().With([&](Engine& engine, absl::Time now) -> absl::Status {
      KVTIER_RETURN_IF_ERROR(engine.Heartbeat(caller, now));
      uint32_t released = 0;
      // A lease that ended by itself meanwhile is no error.
      for (const uint64_t lease : request->lease_ids()) {
        if (engine.Release(caller, LeaseId(lease)).ok()) ++released;
      }
      reply->set_released(released);
      return absl::OkStatus();
    });
  });
}

grpc::Status KvCacheService::Report(grpc::ServerContext*, const v1::ReportRequest* request,
                                    v1::ReportReply*) {
  return ServeCall(tenant_, RpcMethod::kReport, [&]() -> absl::Status {
    if (static_cast<uint32_t>(request->planes_size()) > limits().planes_max()) {
      return absl::InvalidArgumentError(absl::StrCat("a report of ", request->planes_size(),
                                                     " planes; a model has at most ",
                                                     limits().planes_max()));
    }
    std::vector<PlaneReads> reads;
    for (const v1::ReportRequest::PlaneReads& plane : request->planes()) {
      KVTIER_ASSIGN_OR_RETURN(const PlaneIndex index, PlaneFromNumber(plane.plane()));
      reads.push_back({.plane = index,
                       .steps = plane.steps(),
                       .log_mass = absl::MakeConstSpan(
                           reinterpret_cast<const uint8_t*>(plane.log_mass().data()),
                           plane.log_mass().size())});
    }
    const Caller caller = From(request->session_id());
    const LeaseId lease(request->lease_id());
    return host().With([&](Engine& engine, absl::Time now) -> absl::Status {
      KVTIER_ASSIGN_OR_RETURN(const uint32_t chunks, engine.LeaseChunks(caller, lease));
      for (const PlaneReads& plane : reads) {
        if (plane.log_mass.size() == chunks) continue;
        return absl::InvalidArgumentError(absl::StrCat(
            "report on plane ", plane.plane.value(), ": log_mass has ", plane.log_mass.size(),
            " bytes for the ", chunks, " chunks of lease ", lease.value()));
      }
      KVTIER_RETURN_IF_ERROR(TakeLogicalTime(engine, caller, request->logical_time_us(), now));
      return engine.Report(caller, lease, reads, now);
    });
  });
}

grpc::Status KvCacheService::Prefetch(grpc::ServerContext*, const v1::PrefetchRequest* request,
                                      v1::PrefetchReply* reply) {
  return ServeCall(tenant_, RpcMethod::kPrefetch, [&]() -> absl::Status {
    KVTIER_ASSIGN_OR_RETURN(const ModelId model, ModelFromNumber(request->model_id()));
    KVTIER_ASSIGN_OR_RETURN(const std::vector<wire::ChunkKey> keys,
                            KeysFromBytes(request->keys(), limits().chunks_per_call_max()));
    KVTIER_ASSIGN_OR_RETURN(const uint32_t accepted, host().With([&](Engine& engine, absl::Time) {
      return engine.Prefetch(From(request->session_id()), model, keys);
    }));
    host().Wake();
    reply->set_accepted_chunks(accepted);
    return absl::OkStatus();
  });
}

grpc::Status KvCacheService::Forget(grpc::ServerContext*, const v1::ForgetRequest* request,
                                    v1::ForgetReply* reply) {
  return ServeCall(tenant_, RpcMethod::kForget, [&]() -> absl::Status {
    KVTIER_ASSIGN_OR_RETURN(const ModelId model, ModelFromNumber(request->model_id()));
    KVTIER_ASSIGN_OR_RETURN(const std::vector<wire::ChunkKey> keys,
                            KeysFromBytes(request->keys(), limits().chunks_per_call_max()));
    KVTIER_ASSIGN_OR_RETURN(const uint32_t forgotten, host().With([&](Engine& engine, absl::Time) {
      return engine.Forget(From(request->session_id()), model, keys);
    }));
    reply->set_forgotten_chunks(forgotten);
    return absl::OkStatus();
  });
}

}  // namespace kvtier
