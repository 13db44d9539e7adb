// `kvtier pools`.
#include <cstdio>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/admin_client.h"
#include "client/cli/command.h"
#include "client/cli/option_values.h"
#include "client/cli/text_table.h"

namespace kvtier::cli {
namespace {

struct Budget {
  std::string pool;
  uint64_t bytes = 0;
};

struct PoolsOptions {
  CommonOptions common;
  std::vector<Budget> budgets;
};

// The fields that only an admin is told are null for others: 0 would look like a number.
Json PoolJson(const v1::PoolsReply::Pool& pool, bool admin) {
  const auto told = [admin](auto number) { return admin ? Json(number) : Json(nullptr); };
  Json tenants = Json::array();
  for (const auto& tenant : pool.tenants()) {
    tenants.push_back({{"name", tenant.name()},
                       {"quota_bytes", tenant.quota_bytes()},
                       {"used_bytes", tenant.used_bytes()},
                       {"kept_bytes", tenant.kept_bytes()}});
  }
  return {{"name", pool.name()},
          {"kind", pool.kind()},
          {"emulated", pool.emulated()},
          {"numa_node", pool.numa_node()},
          {"page_bytes", pool.page_bytes()},
          {"budget_bytes", pool.budget_bytes()},
          {"limit_bytes", pool.limit_bytes()},
          {"segment_bytes", pool.segment_bytes()},
          {"segments", told(pool.segments())},
          {"used_bytes", pool.used_bytes()},
          {"retired_bytes", told(pool.retired_bytes())},
          {"mean_run_length", told(pool.mean_run_length())},
          {"moved_in_blocks", told(pool.moved_in_blocks())},
          {"tenants", std::move(tenants)}};
}

std::string PoolsText(const v1::PoolsReply& reply, bool admin) {
  const auto told = [admin](std::string text) { return admin ? text : std::string("-"); };
  TextTable table({"pool", "kind", "node>", "used>", "budget>", "limit>", "retired>", "segments>",
                   "pages>", "run>"});
  for (const auto& pool : reply.pools()) {
    table.AddRow({pool.name(), absl::StrCat(pool.kind(), pool.emulated() ? " (emulated)" : ""),
                  pool.numa_node() < 0 ? "-" : absl::StrCat(pool.numa_node()),
                  SizeText(pool.used_bytes()), SizeText(pool.budget_bytes()),
                  SizeText(pool.limit_bytes()), told(SizeText(pool.retired_bytes())),
                  told(absl::StrCat(pool.segments())), SizeText(pool.page_bytes()),
                  told(absl::StrFormat("%.1f", pool.mean_run_length()))});
  }
  TextTable tenants({"pool", "tenant", "used>", "quota>", "kept>"});
  for (const auto& pool : reply.pools()) {
    for (const auto& tenant : pool.tenants()) {
      tenants.AddRow({pool.name(), tenant.name(), SizeText(tenant.used_bytes()),
                      SizeText(tenant.quota_bytes()), SizeText(tenant.kept_bytes())});
    }
  }
  return absl::StrCat(table.Text(), "\n", tenants.Text());
}

// POOL=SIZE.
Budget ParseBudget(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos || equals + 1 == text.size()) {
    throw CLI::ValidationError(
        absl::StrCat("--set-budget takes POOL=SIZE, for example hbm:0=64MiB, not \"", text, "\""));
  }
  const absl::StatusOr<uint64_t> bytes = ParseSize(text.substr(equals + 1));
  if (!bytes.ok())
    throw CLI::ValidationError(absl::StrCat("--set-budget: ", bytes.status().message()));
  return {text.substr(0, equals), *bytes};
}

// Whether the daemon would take it; asked of all budgets before the first is set.
absl::Status CheckBudget(const v1::PoolsReply& reply, const Budget& budget) {
  std::vector<std::string> names;
  for (const auto& pool : reply.pools()) {
    names.push_back(pool.name());
    if (pool.name() != budget.pool) continue;
    if (budget.bytes > pool.limit_bytes() ||
        (budget.bytes > 0 && budget.bytes < pool.segment_bytes())) {
      return absl::InvalidArgumentError(
          absl::StrCat("pool ", pool.name(), " cannot have a budget of ", budget.bytes,
                       " bytes: 0 is allowed, or ", pool.segment_bytes(), " (a segment) to ",
                       pool.limit_bytes(), " (its limit); nothing was changed"));
    }
    return absl::OkStatus();
  }
  return absl::NotFoundError(absl::StrCat("there is no pool \"", budget.pool, "\", only ",
                                          absl::StrJoin(names, ", "), "; nothing was changed"));
}

// Sets one budget and appends what changed.
absl::Status SetBudget(AdminClient& admin, const Budget& budget, Json& changed) {
  v1::SetBudgetRequest request;
  request.set_pool(budget.pool);
  request.set_budget_bytes(budget.bytes);
  v1::SetBudgetReply reply;
  absl::Status status = admin.Call(&v1::Admin::Stub::SetBudget, request, reply);
  if (!status.ok()) return status;
  changed.push_back({{"pool", budget.pool},
                     {"previous_bytes", reply.previous_bytes()},
                     {"budget_bytes", budget.bytes}});
  return absl::OkStatus();
}

absl::Status ReadPools(AdminClient& admin, v1::PoolsReply& reply) {
  return admin.Call(&v1::Admin::Stub::Pools, v1::PoolsRequest(), reply);
}

absl::Status SetBudgets(AdminClient& admin, const std::vector<Budget>& budgets, Json& changed) {
  v1::PoolsReply reply;
  absl::Status status = ReadPools(admin, reply);
  for (size_t i = 0; status.ok() && i < budgets.size(); ++i)
    status = CheckBudget(reply, budgets[i]);
  for (size_t i = 0; status.ok() && i < budgets.size(); ++i)
    status = SetBudget(admin, budgets[i], changed);
  return status;
}

absl::Status RunPools(const PoolsOptions& options) {
  auto admin = AdminClient::Connect(options.common.socket);
  if (!admin.ok()) return admin.status();
  v1::StatusRequest status_request;
  *status_request.mutable_version() = ProtocolVersion();
  v1::StatusReply caller;
  absl::Status status = admin->Call(&v1::Admin::Stub::Status, status_request, caller);
  Json changed = Json::array();
  if (status.ok() && !options.budgets.empty())
    status = SetBudgets(*admin, options.budgets, changed);
  v1::PoolsReply reply;
  if (status.ok()) status = ReadPools(*admin, reply);
  if (!status.ok()) return status;
  if (!options.common.json) {
    std::fputs(PoolsText(reply, caller.admin()).c_str(), stdout);
    return absl::OkStatus();
  }
  Json pools = Json::array();
  for (const auto& pool : reply.pools()) pools.push_back(PoolJson(pool, caller.admin()));
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
      ->add_option_function<std::vector<std::string>>(
          "--set-budget",
          [options](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) options->budgets.push_back(ParseBudget(text));
          },
          "First changes a pool's budget: 0, or a segment up to the pool's limit (needs a tenant "
          "with admin: true)")
      ->type_name("POOL=SIZE");
  command->footer("Example: kvtier pools --set-budget hbm:0=256MiB --set-budget dram:0=1GiB");
  SetAction(*command, exit_code, [options] { return RunPools(*options); });
}

}  // namespace kvtier::cli
