#include "daemon/metrics_page.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/counter_table.h"

namespace kvtier {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

class PageBuilder {
 public:
  MetricFamily& Add(std::string name, std::string help, MetricType type) {
    MetricFamily& family = families_.emplace_back();
    family.name = std::move(name);
    family.help = std::move(help);
    family.type = type;
    return family;
  }
  void Gauge(std::string name, std::string help, double value) {
    Value(Add(std::move(name), std::move(help), MetricType::Gauge), {}, value);
  }
  void Counter(std::string name, std::string help, uint64_t value) {
    Value(Add(std::move(name), std::move(help), MetricType::Counter), {},
          static_cast<double>(value));
  }
  static void Value(MetricFamily& family, Labels labels, double value) {
    ClientMetric& metric = family.metric.emplace_back();
    metric.label = std::move(labels);
    (family.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  }
  const std::vector<MetricFamily>& families() const { return families_; }

 private:
  std::vector<MetricFamily> families_;
};

double Number(Bytes bytes) { return static_cast<double>(bytes.count()); }

void AddPools(const MetricsSnapshot& snapshot, PageBuilder* page) {
  struct PoolGauge {
    const char* name;
    const char* help;
    double (*value)(const PoolStatus&);
  };
  static constexpr PoolGauge kGauges[] = {
      {"kvtier_pool_budget_bytes", "What the pool may hold now",
       [](const PoolStatus& p) { return Number(p.budget); }},
      {"kvtier_pool_limit_bytes", "What its budget may be raised to",
       [](const PoolStatus& p) { return Number(p.limit); }},
      {"kvtier_pool_segments", "Segments mapped",
       [](const PoolStatus& p) { return static_cast<double>(p.segments); }},
      {"kvtier_pool_used_bytes", "Slots handed out",
       [](const PoolStatus& p) { return Number(p.used); }},
      {"kvtier_pool_retired_bytes", "Slots waiting for readers",
       [](const PoolStatus& p) { return Number(p.retired); }},
      {"kvtier_pool_mean_run_length", "Mean number of slots of a request that lie side by side",
       [](const PoolStatus& p) { return p.mean_run_length; }},
      {"kvtier_pool_emulated", "1 when host memory stands in for HBM",
       [](const PoolStatus& p) { return p.description.emulated ? 1.0 : 0.0; }},
      {"kvtier_pool_page_bytes", "Page size behind the segments, as far as known",
       [](const PoolStatus& p) { return Number(p.description.page_bytes); }},
  };
  for (const PoolGauge& gauge : kGauges) {
    MetricFamily& family = page->Add(gauge.name, gauge.help, MetricType::Gauge);
    for (const PoolStatus& pool : snapshot.pools) {
      PageBuilder::Value(family, {{"pool", pool.description.name}}, gauge.value(pool));
    }
  }
  MetricFamily& moved = page->Add("kvtier_pool_moved_in_blocks_total",
                                  "Copies that moves made in the pool", MetricType::Counter);
  for (const PoolStatus& pool : snapshot.pools) {
    PageBuilder::Value(moved, {{"pool", pool.description.name}},
                       static_cast<double>(pool.moved_in_blocks));
  }
  struct ShareGauge {
    const char* name;
    const char* help;
    Bytes PoolStatus::Tenant::*value;
  };
  static constexpr ShareGauge kShares[] = {
      {"kvtier_tenant_quota_bytes", "Quota of a tenant in a pool", &PoolStatus::Tenant::quota},
      {"kvtier_tenant_used_bytes", "Slots of a tenant in a pool", &PoolStatus::Tenant::used},
      {"kvtier_pool_kept_bytes", "Given back, and kept by the tenant's processes",
       &PoolStatus::Tenant::kept},
  };
  for (const ShareGauge& share : kShares) {
    MetricFamily& family = page->Add(share.name, share.help, MetricType::Gauge);
    for (const PoolStatus& pool : snapshot.pools) {
      for (size_t i = 0; i < pool.tenants.size() && i < snapshot.tenants.size(); ++i) {
        PageBuilder::Value(family,
                           {{"pool", pool.description.name}, {"tenant", snapshot.tenants[i]}},
                           Number(pool.tenants[i].*share.value));
      }
    }
  }
}

void AddTenants(const MetricsSnapshot& snapshot, PageBuilder* page) {
  struct TenantGauge {
    const char* name;
    const char* help;
    uint64_t EngineTotals::*value;
  };
  static constexpr TenantGauge kGauges[] = {
      {"kvtier_sessions", "Attached sessions", &EngineTotals::sessions},
      {"kvtier_leases", "Leases held", &EngineTotals::leases},
      {"kvtier_reservations", "Reservations open", &EngineTotals::reservations},
      {"kvtier_chunks", "Chunks in the table", &EngineTotals::chunks},
      {"kvtier_blocks", "Blocks of those chunks", &EngineTotals::blocks},
      {"kvtier_models", "Registered models", &EngineTotals::models},
      {"kvtier_index_entries", "Chunks that clients find in shared memory",
       &EngineTotals::index_entries},
      {"kvtier_index_entries_max", "How many there may be", &EngineTotals::index_entries_max},
  };
  for (const TenantGauge& gauge : kGauges) {
    MetricFamily& family = page->Add(gauge.name, gauge.help, MetricType::Gauge);
    for (size_t i = 0; i < snapshot.tenant_totals.size(); ++i) {
      PageBuilder::Value(family, {{"tenant", snapshot.tenants[i]}},
                         static_cast<double>(snapshot.tenant_totals[i].*gauge.value));
    }
  }
}

void AddSharedMemory(const MetricsSnapshot& snapshot, PageBuilder* page) {
  struct SharedGauge {
    const char* name;
    const char* help;
    double (*value)(const SharedClientStatus&);
  };
  static constexpr SharedGauge kGauges[] = {
      {"kvtier_shared_clients", "Processes that read in place, until they end",
       [](const SharedClientStatus&) { return 1.0; }},
      {"kvtier_shared_sections", "Read sections that they have open",
       [](const SharedClientStatus& c) { return static_cast<double>(c.open_sections); }},
      {"kvtier_shared_clients_over_limit", "Those with a section open for longer than the limit",
       [](const SharedClientStatus& c) { return c.over_limit ? 1.0 : 0.0; }},
  };
  for (const SharedGauge& gauge : kGauges) {
    std::vector<double> sums(snapshot.tenants.size());
    for (const SharedClientStatus& client : snapshot.shared_clients)
      sums[client.tenant.value()] += gauge.value(client);
    MetricFamily& family = page->Add(gauge.name, gauge.help, MetricType::Gauge);
    for (size_t i = 0; i < sums.size(); ++i)
      PageBuilder::Value(family, {{"tenant", snapshot.tenants[i]}}, sums[i]);
  }
  page->Counter("kvtier_shared_clients_attached_total", "Processes that were given shared memory",
                snapshot.shared_attached);
  page->Counter("kvtier_shared_clients_refused_total",
                "Connections to the shared-memory socket that were refused or closed",
                snapshot.shared_refused);
}

void AddCalls(const RpcMetrics& rpc, PageBuilder* page) {
  MetricFamily& calls =
      page->Add("kvtier_rpc_calls_total", "Calls that ended, by status code", MetricType::Counter);
  for (size_t m = 0; m < RpcMetrics::kMethods; ++m) {
    const auto method = static_cast<RpcMethod>(m);
    for (size_t code = 0; code < RpcMetrics::kCodes; ++code) {
      const uint64_t count = rpc.method(method).codes[code];
      if (count == 0 && code != 0) continue;  // codes that never came are left out, OK is not
      PageBuilder::Value(calls,
                         {{"method", RpcMethodName(method)},
                          {"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}},
                         static_cast<double>(count));
    }
  }
  MetricFamily& running =
      page->Add("kvtier_rpc_calls_in_progress", "Calls being served", MetricType::Gauge);
  for (size_t m = 0; m < RpcMetrics::kMethods; ++m) {
    const auto method = static_cast<RpcMethod>(m);
    PageBuilder::Value(running, {{"method", RpcMethodName(method)}},
                       static_cast<double>(rpc.method(method).in_progress.load()));
  }
  MetricFamily& seconds = page->Add(
      "kvtier_rpc_seconds", "Time from the first byte of a call to its end, streams included",
      MetricType::Histogram);
  for (size_t m = 0; m < RpcMetrics::kMethods; ++m) {
    const RpcMetrics::Method& counts = rpc.method(static_cast<RpcMethod>(m));
    ClientMetric metric;
    metric.label = {{"method", RpcMethodName(static_cast<RpcMethod>(m))}};
    for (size_t i = 0; i < counts.buckets.size(); ++i) {
      metric.histogram.sample_count += counts.buckets[i];
      if (i < RpcMetrics::kBounds.size()) {
        metric.histogram.bucket.push_back({metric.histogram.sample_count, RpcMetrics::kBounds[i]});
      }
    }
    metric.histogram.sample_sum = static_cast<double>(counts.nanoseconds.load()) * 1e-9;
    seconds.metric.push_back(std::move(metric));
  }
  page->Counter("kvtier_stored_bytes_total", "Bytes taken by Store", rpc.stored_bytes);
  page->Counter("kvtier_fetched_bytes_total", "Bytes sent by Fetch", rpc.fetched_bytes);
  page->Gauge("kvtier_watch_streams", "Watch streams open",
              static_cast<double>(rpc.watch_streams.load()));
}

PageBuilder BuildPage(const MetricsSnapshot& snapshot) {
  PageBuilder page;
  PageBuilder::Value(
      page.Add("kvtier_build_info", "Always 1; the version is a label", MetricType::Gauge),
      {{"version", snapshot.version}}, 1);
  page.Gauge("kvtier_uptime_seconds", "Time since the daemon started", snapshot.uptime_seconds);
  page.Gauge("kvtier_draining", "1 while the daemon takes no new work", snapshot.draining ? 1 : 0);
  for (const CounterEntry& entry : EngineCounterTable()) {
    page.Counter(absl::StrCat("kvtier_", entry.name, "_total"), entry.help,
                 snapshot.counters.*entry.value);
  }
  page.Gauge("kvtier_moves_in_flight", "Copies between pools under way",
             static_cast<double>(snapshot.moves_in_flight));
  page.Gauge("kvtier_metadata_bytes", "The engine's own tables", Number(snapshot.metadata));
  AddPools(snapshot, &page);
  AddTenants(snapshot, &page);
  page.Gauge("kvtier_connections", "Connections open", static_cast<double>(snapshot.connections));
  page.Counter("kvtier_connections_accepted_total", "Connections accepted",
               snapshot.connections_accepted);
  MetricFamily& refused = page.Add("kvtier_connections_refused_total",
                                   "Connections closed at once, by reason", MetricType::Counter);
  PageBuilder::Value(refused, {{"reason", "uid"}},
                     static_cast<double>(snapshot.connections_refused_uid));
  PageBuilder::Value(refused, {{"reason", "limit"}},
                     static_cast<double>(snapshot.connections_refused_limit));
  page.Counter("kvtier_sessions_ended_by_process_total", "Sessions ended because their process did",
               snapshot.processes_ended);
  AddSharedMemory(snapshot, &page);
  page.Counter("kvtier_scrubbed_bytes_total", "Bytes verified in the background",
               snapshot.scrubbed_bytes);
  if (snapshot.rpc != nullptr) AddCalls(*snapshot.rpc, &page);
  return page;
}

}  // namespace

std::string MetricsText(const MetricsSnapshot& snapshot) {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, BuildPage(snapshot).families());
  return out.str();
}

std::vector<MetricName> AllMetrics() {
  const RpcMetrics rpc;
  MetricsSnapshot empty;
  empty.rpc = &rpc;
  std::vector<MetricName> names;
  const PageBuilder page = BuildPage(empty);
  for (const MetricFamily& family : page.families()) names.push_back({family.name, family.help});
  return names;
}

}  // namespace kvtier
