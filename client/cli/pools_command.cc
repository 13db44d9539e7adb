// `kvtier pools`.
#include <cstdio>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/admin_client.h"
#include "client/cli/command.h"
#include "client/cli/text_table.h"

namespace kvtier::cli {
namespace {

struct PoolsOptions {
  CommonOptions common;
  std::vector<std::string> budgets;
};

Json PoolJson(const v1::PoolsReply::Pool& pool) {
  Json tenants = Json::array();
  for (const auto& tenant : pool.tenants()) {
    tenants.push_back({{"name", tenant.name()},
                       {"quota_bytes", tenant.quota_bytes()},
                       {"used_bytes", tenant.used_bytes()}});
  }
  return {{"name", pool.name()},
          {"kind", pool.kind()},
          {"emulated", pool.emulated()},
          {"numa_node", pool.numa_node()},
          {"page_bytes", pool.page_bytes()},
          {"budget_bytes", pool.budget_bytes()},
          {"limit_bytes", pool.limit_bytes()},
          {"segment_bytes", pool.segment_bytes()},
          {"segments", pool.segments()},
          {"used_bytes", pool.used_bytes()},
          {"retired_bytes", pool.retired_bytes()},
          {"mean_run_length", pool.mean_run_length()},
          {"moved_in_blocks", pool.moved_in_blocks()},
          {"tenants", std::move(tenants)}};
}

std::string PoolsText(const v1::PoolsReply& reply) {
  TextTable table({"pool", "kind", "node>", "used>", "budget>", "limit>", "retired>", "segments>",
                   "pages>", "run>"});
  for (const auto& pool : reply.pools()) {
    table.AddRow({pool.name(), absl::StrCat(pool.kind(), pool.emulated() ? " (emulated)" : ""),
                  pool.numa_node() < 0 ? "-" : absl::StrCat(pool.numa_node()),
                  SizeText(pool.used_bytes()), SizeText(pool.budget_bytes()),
                  SizeText(pool.limit_bytes()), SizeText(pool.retired_bytes()),
                  absl::StrCat(pool.segments()), SizeText(pool.page_bytes()),
                  absl::StrFormat("%.1f", pool.mean_run_length())});
  }
  TextTable tenants({"pool", "tenant", "used>", "quota>"});
  for (const auto& pool : reply.pools()) {
    for (const auto& tenant : pool.tenants()) {
      tenants.AddRow({pool.name(), tenant.name(), SizeText(tenant.used_bytes()),
                      SizeText(tenant.quota_bytes())});
    }
  }
  return absl::StrCat(table.Text(), "\n", tenants.Text());
}

// Sets one budget, written POOL=SIZE, and appends what changed.
absl::Status SetBudget(AdminClient& admin, const std::string& text, Json& changed) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("--set-budget takes POOL=SIZE, for example hbm:0=64MiB, not \"", text, "\""));
  }
  auto bytes = ParseSize(text.substr(equals + 1));
  if (!bytes.ok()) return bytes.status();
  v1::SetBudgetRequest request;
  request.set_pool(text.substr(0, equals));
  request.set_budget_bytes(*bytes);
  v1::SetBudgetReply reply;
  absl::Status status = admin.Call(&v1::Admin::Stub::SetBudget, request, reply);
  if (!status.ok()) return status;
  changed.push_back({{"pool", request.pool()},
                     {"previous_bytes", reply.previous_bytes()},
                     {"budget_bytes", *bytes}});
  return absl::OkStatus();
}

absl::Status RunPools(const PoolsOptions& options) {
  auto admin = AdminClient::Connect(options.common.socket);
  if (!admin.ok()) return admin.status();
  Json changed = Json::array();
  for (const std::string& budget : options.budgets) {
    if (absl::Status status = SetBudget(*admin, budget, changed); !status.ok()) return status;
  }
  v1::PoolsReply reply;
  if (absl::Status status = admin->Call(&v1::Admin::Stub::Pools, v1::PoolsRequest(), reply);
      !status.ok()) {
    return status;
  }
  if (!options.common.json) {
    std::fputs(PoolsText(reply).c_str(), stdout);
    return absl::OkStatus();
  }
  Json pools = Json::array();
  for (const auto& pool : reply.pools()) pools.push_back(PoolJson(pool));
  PrintJson({{"pools", std::move(pools)}, {"changed", std::move(changed)}});
  return absl::OkStatus();
}

}  // namespace

void AddPoolsCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<PoolsOptions>();
  CLI::App* command =
      app.add_subcommand("pools", "Shows the memory pools, their use and their budgets");
  AddCommonOptions(*command, options->common);
  command
      ->add_option("--set-budget", options->budgets,
                   "First changes a pool's budget, up to its limit (needs an admin tenant)")
      ->type_name("POOL=SIZE");
  SetAction(*command, exit_code, [options] { return RunPools(*options); });
}

}  // namespace kvtier::cli
