#include "daemon/admin_service.h"

#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/config_units.h"
#include "daemon/counter_table.h"
#include "daemon/proto_convert.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

constexpr uint64_t kBlocksDefault = 100;
constexpr uint64_t kBlocksMax = 10'000;
constexpr uint64_t kBlocksPerLock = 256;
constexpr uint64_t kDrainDefaultMs = 30'000;
constexpr uint64_t kDrainMaxMs = 3'600'000;
constexpr uint64_t kHoldMaxMs = 60'000;
constexpr absl::Duration kSettleMax = absl::Seconds(30);
// How soon a drain notices that its caller is gone.
constexpr absl::Duration kCancelRecheck = absl::Milliseconds(100);

uint64_t Count(Bytes bytes) { return static_cast<uint64_t>(bytes.count()); }

// A model, once found, stays as it is until the engine ends.
void FillChunk(const ChunkInfo& chunk, const ModelSpec* model,
               const google::protobuf::RepeatedPtrField<v1::PoolConfig>& pools,
               v1::BlocksReply::Chunk* out) {
  out->set_key(KeyToBytes(chunk.key));
  if (!chunk.parent_key.is_zero()) out->set_parent_key(KeyToBytes(chunk.parent_key));
  if (model != nullptr) out->set_model(model->name);
  out->set_token_count(chunk.token_count);
  out->set_leases(chunk.leases);
  out->set_children(chunk.has_children ? 1 : 0);
  out->set_bytes(Count(chunk.bytes));
  out->set_hidden(chunk.hidden);
  for (size_t i = 0; i < chunk.blocks_by_pool.size(); ++i) {
    if (chunk.blocks_by_pool[i] == 0) continue;
    v1::BlocksReply::Copy* copy = out->add_copies();
    copy->set_pool(pools.Get(static_cast<int>(i)).name());
    copy->set_blocks(chunk.blocks_by_pool[i]);
  }
}

}  // namespace

absl::Status AdminService::CheckAdmin(absl::string_view what) const {
  if (tenant_.admin) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(
      what, " needs a tenant with admin: true; tenant \"", tenant_.name, "\" has not"));
}

grpc::Status AdminService::Status(grpc::ServerContext*, const v1::StatusRequest* request,
                                  v1::StatusReply* reply) {
  return ServeCall(tenant_, RpcMethod::kStatus, [&]() -> absl::Status {
    KVTIER_RETURN_IF_ERROR(CheckVersion(request->version(), "client"));
    const DaemonContext& daemon = *tenant_.daemon;
    *reply->mutable_version() = ProtocolVersion();
    reply->set_daemon_version(daemon.daemon_version);
    reply->set_daemon_epoch(daemon.epoch);
    const auto uptime = absl::FromChrono(std::chrono::steady_clock::now() - daemon.started);
    reply->set_uptime_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(uptime)));
    reply->set_pid(getpid());
    reply->set_draining(daemon.drain->draining());
    reply->set_tenant(tenant_.name);
    reply->set_admin(tenant_.admin);
    reply->set_devices(daemon.devices);
    EngineTotals totals;
    EngineCounters counters;
    host().With([&](Engine& engine, absl::Time) {
      reply->set_policy(engine.policy().name());
      totals = engine.Totals(tenant_.admin ? std::nullopt : std::optional<TenantId>(tenant_.id));
      counters = engine.counters();
    });
    reply->set_sessions(totals.sessions);
    reply->set_leases(totals.leases);
    reply->set_reservations(totals.reservations);
    reply->set_chunks(totals.chunks);
    reply->set_blocks(totals.blocks);
    reply->set_models(totals.models);
    reply->set_moves_in_flight(totals.moves_in_flight);
    // Counters are of all tenants together.
    if (tenant_.admin) {
      for (const CounterEntry& entry : EngineCounterTable()) {
        (*reply->mutable_counters())[entry.name] = counters.*entry.value;
      }
    }
    return absl::OkStatus();
  });
}

grpc::Status AdminService::Topology(grpc::ServerContext*, const v1::TopologyRequest*,
                                    v1::TopologyReply* reply) {
  return ServeCall(tenant_, RpcMethod::kTopology, [&]() -> absl::Status {
    const kvtier::Topology& topology = *tenant_.daemon->topology;
    reply->set_machine(topology.machine);
    for (const NumaNode& node : topology.nodes) {
      v1::TopologyReply::Node* out = reply->add_nodes();
      out->set_os_index(node.os_index);
      out->set_memory_bytes(Count(node.memory_bytes));
      out->set_cores(static_cast<uint32_t>(node.cores));
      out->set_is_gpu_memory(node.is_gpu_memory);
    }
    for (const GpuDevice& gpu : topology.gpus) {
      v1::TopologyReply::Gpu* out = reply->add_gpus();
      out->set_pci_bus_id(gpu.pci_bus_id);
      out->set_numa_node(gpu.numa_node);
    }
    return absl::OkStatus();
  });
}

grpc::Status AdminService::Pools(grpc::ServerContext*, const v1::PoolsRequest*,
                                 v1::PoolsReply* reply) {
  return ServeCall(tenant_, RpcMethod::kPools, [&]() -> absl::Status {
    const std::vector<PoolStatus> pools =
        host().With([](Engine& engine, absl::Time) { return engine.Pools(); });
    for (const PoolStatus& pool : pools) {
      v1::PoolsReply::Pool* out = reply->add_pools();
      out->set_name(pool.description.name);
      out->set_kind(PoolKindName(pool.description.kind));
      out->set_emulated(pool.description.emulated);
      out->set_numa_node(pool.description.numa_node);
      out->set_page_bytes(Count(pool.description.page_bytes));
      out->set_budget_bytes(Count(pool.budget));
      out->set_limit_bytes(Count(pool.limit));
      out->set_segment_bytes(Count(pool.segment_bytes));
      if (tenant_.admin) {
        out->set_segments(pool.segments);
        out->set_used_bytes(Count(pool.used));
        out->set_retired_bytes(Count(pool.retired));
        out->set_mean_run_length(pool.mean_run_length);
        out->set_moved_in_blocks(pool.moved_in_blocks);
      } else {
        out->set_used_bytes(Count(pool.tenants[tenant_.id.value()].used));
      }
      for (size_t i = 0; i < pool.tenants.size(); ++i) {
        if (!tenant_.admin && i != tenant_.id.value()) continue;
        v1::PoolsReply::Tenant* share = out->add_tenants();
        share->set_name(tenant_.daemon->config->tenants(static_cast<int>(i)).name());
        share->set_quota_bytes(Count(pool.tenants[i].quota));
        share->set_used_bytes(Count(pool.tenants[i].used));
        share->set_kept_bytes(Count(pool.tenants[i].kept));
      }
    }
    return absl::OkStatus();
  });
}

grpc::Status AdminService::SetBudget(grpc::ServerContext*, const v1::SetBudgetRequest* request,
                                     v1::SetBudgetReply* reply) {
  return ServeCall(tenant_, RpcMethod::kSetBudget, [&]() -> absl::Status {
    KVTIER_RETURN_IF_ERROR(CheckAdmin("SetBudget"));
    const auto& pools = tenant_.daemon->config->pools();
    const auto pool = std::find_if(pools.begin(), pools.end(), [&](const v1::PoolConfig& entry) {
      return entry.name() == request->pool();
    });
    if (pool == pools.end()) {
      return absl::NotFoundError(
          absl::StrCat("there is no pool \"", request->pool().substr(0, 64), "\""));
    }
    // The pool was made for what it was configured with; larger numbers would not even fit the
    // engine's type.
    if (request->budget_bytes() > pool->budget_bytes()) {
      return absl::InvalidArgumentError(
          absl::StrCat("pool ", pool->name(), ": a budget of ", request->budget_bytes(),
                       " bytes is beyond its limit of ", pool->budget_bytes()));
    }
    const PoolId id(static_cast<uint8_t>(pool - pools.begin()));
    KVTIER_ASSIGN_OR_RETURN(const Bytes previous, host().With([&](Engine& engine, absl::Time) {
      return engine.SetBudget(id, Bytes(static_cast<int64_t>(request->budget_bytes())));
    }));
    host().Wake();
    reply->set_previous_bytes(Count(previous));
    log::Info("budget set", {{"pool", pool->name()},
                             {"bytes", request->budget_bytes()},
                             {"previous_bytes", Count(previous)},
                             {"tenant", tenant_.name}});
    return absl::OkStatus();
  });
}

grpc::Status AdminService::Blocks(grpc::ServerContext*, const v1::BlocksRequest* request,
                                  v1::BlocksReply* reply) {
  return ServeCall(tenant_, RpcMethod::kBlocks, [&]() -> absl::Status {
    const uint64_t limit = request->limit() == 0 ? kBlocksDefault : request->limit();
    if (limit > kBlocksMax) {
      return absl::InvalidArgumentError(absl::StrCat("limit is ", limit, " chunks; at most ",
                                                     kBlocksMax, " are allowed in a call"));
    }
    uint64_t cursor = request->cursor();
    const auto& pools = tenant_.daemon->config->pools();
    std::vector<ChunkInfo> chunks;
    do {
      // A few at a time: others wait for the lock.
      const uint64_t wanted =
          std::min(kBlocksPerLock, limit - static_cast<uint64_t>(reply->chunks_size()));
      std::vector<const ModelSpec*> models;
      host().With([&](Engine& engine, absl::Time) {
        chunks = engine.ListChunks(tenant_.id, cursor, wanted);
        for (const ChunkInfo& chunk : chunks)
          models.push_back(engine.FindModel(tenant_.id, chunk.model));
      });
      for (size_t i = 0; i < chunks.size(); ++i) {
        FillChunk(chunks[i], models[i], pools, reply->add_chunks());
      }
    } while (cursor != 0 && static_cast<uint64_t>(reply->chunks_size()) < limit);
    reply->set_next_cursor(cursor);
    return absl::OkStatus();
  });
}

grpc::Status AdminService::Drain(grpc::ServerContext* context, const v1::DrainRequest* request,
                                 v1::DrainReply* reply) {
  return ServeCall(tenant_, RpcMethod::kDrain, [&]() -> absl::Status {
    KVTIER_RETURN_IF_ERROR(CheckAdmin("Drain"));
    if (request->deadline_ms() > kDrainMaxMs) {
      return absl::InvalidArgumentError(absl::StrCat("deadline_ms is ", request->deadline_ms(),
                                                     "; at most ", kDrainMaxMs, " is allowed"));
    }
    const absl::Duration deadline = absl::Milliseconds(static_cast<int64_t>(
        request->deadline_ms() == 0 ? kDrainDefaultMs : request->deadline_ms()));
    log::Info(
        "drain asked for",
        {{"tenant", tenant_.name},
         {"deadline", DurationText(static_cast<uint64_t>(absl::ToInt64Milliseconds(deadline)))},
         {"exit", request->exit() ? "true" : "false"}});
    tenant_.daemon->drain->BeginDrain();
    EngineTotals left;
    const auto drained = [&left](Engine& engine) {
      left = engine.Totals(std::nullopt);
      return left.leases == 0 && left.reservations == 0;
    };
    const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(deadline);
    bool done = false;
    while (!done && !context->IsCancelled() && !host().interrupted()) {
      const absl::Duration remaining = absl::FromChrono(until - std::chrono::steady_clock::now());
      done = host().WaitUntil(drained, std::min(remaining, kCancelRecheck));
      if (remaining <= absl::ZeroDuration()) break;
    }
    reply->set_drained(done);
    reply->set_leases_left(left.leases);
    reply->set_reservations_left(left.reservations);
    // Whoever gave up waiting gave up the end as well.
    if (request->exit() && !context->IsCancelled()) {
      tenant_.daemon->drain->RequestStop(DrainState::Stop::kNow);
    }
    return absl::OkStatus();
  });
}

grpc::Status AdminService::Settle(grpc::ServerContext*, const v1::SettleRequest* request,
                                  v1::SettleReply*) {
  return ServeCall(tenant_, RpcMethod::kSettle, [&]() -> absl::Status {
    KVTIER_RETURN_IF_ERROR(CheckAdmin("Settle"));
    if (request->hold_ms() > kHoldMaxMs) {
      return absl::InvalidArgumentError(
          absl::StrCat("hold_ms is ", request->hold_ms(), "; at most ", kHoldMaxMs, " is allowed"));
    }
    const absl::Duration hold = absl::Milliseconds(static_cast<int64_t>(request->hold_ms()));
    if (host().Settle(hold, kSettleMax)) return absl::OkStatus();
    const EngineTotals left =
        host().With([](Engine& engine, absl::Time) { return engine.Totals(std::nullopt); });
    return absl::AbortedError(absl::StrCat(
        "not settled within ", absl::FormatDuration(kSettleMax), ": ", left.moves_in_flight,
        " copies are under way, moves wait for their share, or readers hold what was moved"));
  });
}

}  // namespace kvtier
