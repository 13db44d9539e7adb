// The daemon: what owns what, and the order in which it starts and stops.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/attach_server.h"
#include "daemon/connection_acceptor.h"
#include "daemon/drain_state.h"
#include "daemon/engine_builder.h"
#include "daemon/engine_host.h"
#include "daemon/http_server.h"
#include "daemon/metrics_page.h"
#include "daemon/process_watcher.h"
#include "daemon/scrubber.h"
#include "daemon/service_context.h"
#include "daemon/tenant_server.h"
#include "tiering/host/monotonic_clock.h"

namespace kvtier {

// Serves from Create on. Thread-safe.
class Daemon {
 public:
  // An effective configuration (LoadConfig). Errors name the field, path or pool.
  static absl::StatusOr<std::unique_ptr<Daemon>> Create(v1::Config config);
  // Ends every call; without Drain before, at once.
  ~Daemon();

  // Refuses new work; returns whether all leases and reservations ended within `deadline`.
  bool Drain(absl::Duration deadline);
  // Shared, so that a signal handler's thread may outlive the daemon.
  std::shared_ptr<DrainState> drain_state() const { return drain_; }

  const v1::Config& config() const { return config_; }
  // As /metrics and /readyz give them.
  std::string Metrics();
  std::string NotReady() const;

 private:
  explicit Daemon(v1::Config config) : config_(std::move(config)) {}
  absl::Status Start();
  absl::Status StartWatcher();
  absl::Status StartServers(const std::vector<std::string>& salts);
  absl::Status StartSharing(std::unique_ptr<UnixListener> listener);

  // Members are destroyed from the last to the first: nothing outlives what it uses.
  const v1::Config config_;
  MonotonicClock clock_;
  Topology topology_;
  RpcMetrics rpc_metrics_;
  const std::shared_ptr<DrainState> drain_ = std::make_shared<DrainState>();
  std::atomic<uint64_t> sessions_ended_by_process_{0};
  std::vector<HostPool*> pools_;
  DaemonContext context_;
  // The engine writes and reads what is shared with clients, so that goes after the engine.
  std::vector<std::unique_ptr<SharedRegion>> indexes_;  // by TenantId; empty: nothing is shared
  std::unique_ptr<AttachServer> attach_server_;         // null: likewise
  std::unique_ptr<EngineHost> host_;
  std::unique_ptr<Scrubber> scrubber_;  // null: turned off
  std::unique_ptr<ProcessWatcher> watcher_;
  std::vector<std::unique_ptr<TenantServer>> servers_;  // by TenantId
  std::unique_ptr<ConnectionAcceptor> acceptor_;
  std::unique_ptr<HttpServer> http_;
};

}  // namespace kvtier
