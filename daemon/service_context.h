// What the services of one tenant stand on.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "daemon/drain_state.h"
#include "daemon/engine_host.h"
#include "daemon/log.h"
#include "daemon/process_watcher.h"
#include "daemon/rpc_metrics.h"
#include "daemon/status_convert.h"
#include "kvtier/v1/config.pb.h"
#include "tiering/topology/topology.h"

namespace kvtier {

// The largest message either way, as told to clients. Byte streams go in pieces of kPieceBytesMax,
// a whole number of checksum pieces.
inline constexpr uint64_t kMessageBytesMax = 4ull << 20;
inline constexpr uint64_t kPieceBytesMax = 1ull << 20;

// Of the whole daemon; everything outlives the services.
struct DaemonContext {
  EngineHost* host = nullptr;
  ProcessWatcher* watcher = nullptr;
  RpcMetrics* metrics = nullptr;
  DrainState* drain = nullptr;
  const v1::Config* config = nullptr;
  const Topology* topology = nullptr;
  std::string devices;  // what is known of GPUs, or why nothing is
  std::string daemon_version;
  std::string shared_memory_socket;  // empty: nothing is shared
  uint64_t epoch = 0;
  std::chrono::steady_clock::time_point started;
};

// Of one tenant's server. The tenant is fixed when the server is made: no request can name another.
struct TenantContext {
  const DaemonContext* daemon = nullptr;
  TenantId id;
  std::string name;
  std::string salt;
  bool admin = false;
};

// Runs one call: counted, timed, its error logged and translated.
template <typename Handler>
grpc::Status ServeCall(const TenantContext& tenant, RpcMethod method, Handler&& handler) {
  RpcMetrics& metrics = *tenant.daemon->metrics;
  metrics.Begin(method);
  const auto start = std::chrono::steady_clock::now();
  const absl::Status status = std::forward<Handler>(handler)();
  metrics.End(method, status.code(), absl::FromChrono(std::chrono::steady_clock::now() - start));
  if (!status.ok()) {
    log::Debug("call failed",
               {{"method", RpcMethodName(method)}, {"tenant", tenant.name}, {"status", status}});
  }
  return ToGrpcStatus(status);
}

}  // namespace kvtier
