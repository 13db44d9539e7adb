// The metrics in Prometheus' text format, built when somebody asks.
#pragma once

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "daemon/rpc_metrics.h"
#include "tiering/base/bytes.h"
#include "tiering/engine/engine.h"

namespace kvtier {

// Everything that the page shows, taken at one moment.
struct MetricsSnapshot {
  std::string version;
  double uptime_seconds = 0;
  bool draining = false;
  EngineCounters counters;
  Bytes metadata;
  std::vector<PoolStatus> pools;
  std::vector<std::string> tenants;         // names, by TenantId
  std::vector<EngineTotals> tenant_totals;  // beside `tenants`
  uint64_t moves_in_flight = 0;
  uint64_t connections = 0;
  uint64_t connections_accepted = 0;
  uint64_t connections_refused_uid = 0;
  uint64_t connections_refused_limit = 0;
  uint64_t processes_ended = 0;
  std::vector<SharedClientStatus> shared_clients;
  uint64_t shared_attached = 0;
  uint64_t shared_refused = 0;
  uint64_t scrubbed_bytes = 0;
  const RpcMetrics* rpc = nullptr;
};

std::string MetricsText(const MetricsSnapshot& snapshot);

// Name and help of every metric that the page can show; docs/OPERATING.md is tested against it.
struct MetricName {
  std::string name;
  std::string help;
};
std::vector<MetricName> AllMetrics();

}  // namespace kvtier
