// Proves that the metrics page shows every engine counter, pool, tenant and call with the right
// number, and that the operator's page explains each metric.
#include "daemon/metrics_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "daemon/counter_table.h"

namespace kvtier {
namespace {

using ::testing::HasSubstr;

TEST(MetricsPage, ShowsEveryCounter) {
  MetricsSnapshot snapshot;
  uint64_t value = 1000;
  for (const CounterEntry& entry : EngineCounterTable()) snapshot.counters.*entry.value = ++value;
  const std::string page = MetricsText(snapshot);
  value = 1000;
  for (const CounterEntry& entry : EngineCounterTable()) {
    EXPECT_THAT(page, HasSubstr(absl::StrCat("\nkvtier_", entry.name, "_total ", ++value, "\n")));
    EXPECT_THAT(page, HasSubstr(absl::StrCat("# HELP kvtier_", entry.name, "_total ", entry.help)));
  }
  // A counter that is added to the engine must be added to the table.
  EXPECT_EQ(EngineCounterTable().size() * sizeof(uint64_t), sizeof(EngineCounters));
}

TEST(MetricsPage, ShowsPoolsTenantsAndCalls) {
  RpcMetrics rpc;
  rpc.Begin(RpcMethod::kLookup);
  rpc.End(RpcMethod::kLookup, absl::StatusCode::kOk, absl::Microseconds(80));
  rpc.Begin(RpcMethod::kLookup);
  rpc.End(RpcMethod::kLookup, absl::StatusCode::kNotFound, absl::Seconds(60));
  rpc.Begin(RpcMethod::kFetch);
  rpc.fetched_bytes = 77;
  MetricsSnapshot snapshot;
  snapshot.rpc = &rpc;
  snapshot.tenants = {"a", "b"};
  snapshot.tenant_totals.resize(2);
  snapshot.tenant_totals[1].leases = 9;
  snapshot.tenant_totals[0].index_entries = 7;
  snapshot.tenant_totals[0].index_entries_max = 12;
  snapshot.pools.resize(1);
  snapshot.pools[0].description = {.name = "hbm:0", .kind = PoolKind::kHbm, .emulated = true};
  snapshot.pools[0].budget = MiB(3);
  snapshot.pools[0].tenants = {{.quota = MiB(1), .used = Bytes(5), .kept = Bytes(0)},
                               {.quota = MiB(2), .used = Bytes(6), .kept = Bytes(8)}};
  const std::string page = MetricsText(snapshot);
  EXPECT_THAT(page, HasSubstr("kvtier_pool_budget_bytes{pool=\"hbm:0\"} 3145728"));
  EXPECT_THAT(page, HasSubstr("kvtier_pool_emulated{pool=\"hbm:0\"} 1"));
  EXPECT_THAT(page, HasSubstr("kvtier_tenant_used_bytes{pool=\"hbm:0\",tenant=\"b\"} 6"));
  EXPECT_THAT(page, HasSubstr("kvtier_pool_kept_bytes{pool=\"hbm:0\",tenant=\"b\"} 8"));
  EXPECT_THAT(page, HasSubstr("kvtier_leases{tenant=\"b\"} 9"));
  EXPECT_THAT(page, HasSubstr("kvtier_index_entries{tenant=\"a\"} 7"));
  EXPECT_THAT(page, HasSubstr("kvtier_index_entries_max{tenant=\"a\"} 12"));
  EXPECT_THAT(page, HasSubstr("kvtier_rpc_calls_total{method=\"Lookup\",code=\"OK\"} 1"));
  EXPECT_THAT(page, HasSubstr("kvtier_rpc_calls_total{method=\"Lookup\",code=\"NOT_FOUND\"} 1"));
  EXPECT_THAT(page, HasSubstr("kvtier_rpc_calls_in_progress{method=\"Fetch\"} 1"));
  EXPECT_THAT(page, HasSubstr("kvtier_rpc_seconds_bucket{method=\"Lookup\",le=\"0.0001\"} 1"));
  EXPECT_THAT(page, HasSubstr("kvtier_rpc_seconds_bucket{method=\"Lookup\",le=\"+Inf\"} 2"));
  EXPECT_THAT(page, HasSubstr("kvtier_fetched_bytes_total 77"));
}

TEST(MetricsPage, EveryMetricIsInTheOperatorsPage) {
  const char* root = std::getenv("KVTIER_SOURCE_DIR");
  ASSERT_NE(root, nullptr) << "run by ctest";
  std::ifstream file(absl::StrCat(root, "/docs/OPERATING.md"));
  std::stringstream page;
  page << file.rdbuf();
  std::set<std::string> names;
  for (const MetricName& metric : AllMetrics()) {
    EXPECT_TRUE(names.insert(metric.name).second) << metric.name;
    EXPECT_THAT(page.str(), HasSubstr(absl::StrCat("| `", metric.name, "` | ")));
  }
  EXPECT_GT(names.size(), 40u);
}

}  // namespace
}  // namespace kvtier
