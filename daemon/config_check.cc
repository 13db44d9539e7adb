#include "daemon/config_check.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "daemon/config_units.h"
#include "proto/wire/attach_messages.h"
#include "tiering/base/copy_ref.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr size_t kSocketPathMax = sizeof(sockaddr_un::sun_path) - 1;
// Calls beside watch streams must find a thread.
constexpr uint32_t kThreadsBesideWatches = 4;

class ConfigChecker {
 public:
  ConfigChecker(const v1::Config& config, const ConfigOrigins& origins)
      : config_(config), origins_(origins) {}

  absl::Status Check() const {
    KVTIER_RETURN_IF_ERROR(CheckPools());
    KVTIER_RETURN_IF_ERROR(CheckTenants());
    KVTIER_RETURN_IF_ERROR(CheckPolicy());
    KVTIER_RETURN_IF_ERROR(CheckLimits());
    if (config_.listen().shared_memory()) {
      // The second socket's path has to fit as well.
      const size_t path_max = kSocketPathMax - (sizeof wire::kAttachSocketSuffix - 1);
      if (config_.listen().socket().size() > path_max) {
        return Error("listen.socket",
                     absl::StrCat("has ", config_.listen().socket().size(), " bytes; at most ",
                                  path_max, " are allowed with listen.shared_memory, which adds ",
                                  wire::kAttachSocketSuffix));
      }
    }
    if (!config_.listen().http().empty()) {
      const absl::StatusOr<HttpAddress> address = ParseHttpAddress(config_.listen().http());
      if (!address.ok()) return Error("listen.http", address.status().message());
    }
    return absl::OkStatus();
  }

 private:
  // The field itself may be missing in the file; then the nearest thing around it says where to
  // look.
  absl::Status Error(const std::string& path, absl::string_view what) const {
    std::string around = path;
    while (!around.empty()) {
      const auto origin = origins_.find(around);
      if (origin != origins_.end()) {
        return absl::InvalidArgumentError(absl::StrCat(origin->second, ": ", path, ": ", what));
      }
      const size_t cut = around.find_last_of(".[");
      around.resize(cut == std::string::npos ? 0 : cut);
    }
    return absl::InvalidArgumentError(absl::StrCat("configuration: ", path, ": ", what));
  }

  absl::Status CheckPools() const {
    const uint64_t segment = config_.memory().segment_bytes();
    if (segment % kPageBytes != 0) {
      return Error("memory.segment_bytes",
                   absl::StrCat(segment, " bytes are not a multiple of ", kPageBytes, " bytes"));
    }
    absl::flat_hash_map<std::string, int> seen;
    for (int i = 0; i < config_.pools_size(); ++i) {
      const v1::PoolConfig& pool = config_.pools(i);
      const std::string path = absl::StrCat("pools[", i, "]");
      if (pool.name().empty()) return Error(path + ".name", "is required");
      if (pool.kind().empty()) return Error(path + ".kind", "is required (allowed: hbm or dram)");
      int number = 0;
      if (!absl::StartsWith(pool.name(), pool.kind() + ":") ||
          !absl::SimpleAtoi(pool.name().substr(pool.kind().size() + 1), &number) || number < 0 ||
          pool.name() != absl::StrCat(pool.kind(), ":", number)) {
        return Error(path + ".name", absl::StrCat("`", pool.name(), "` is not `", pool.kind(),
                                                  ":` and a number, as in ", pool.kind(), ":0"));
      }
      const auto [other, added] = seen.try_emplace(pool.name(), i);
      if (!added) {
        return Error(path + ".name", absl::StrCat("`", pool.name(), "` is the name of pools[",
                                                  other->second, "] as well"));
      }
      if (pool.budget_bytes() < segment) {
        return Error(
            path + ".budget_bytes",
            absl::StrCat(pool.budget_bytes() == 0 ? "is required" : SizeText(pool.budget_bytes()),
                         ": less than one segment (memory.segment_bytes is ", SizeText(segment),
                         ")"));
      }
      if (pool.budget_bytes() / segment > CopyRef::kSegmentsMax) {
        return Error(
            path + ".budget_bytes",
            absl::StrCat(SizeText(pool.budget_bytes()), " are ", pool.budget_bytes() / segment,
                         " segments of ", SizeText(segment), "; at most ", CopyRef::kSegmentsMax,
                         " can be named: use larger segments"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckTenants() const {
    absl::flat_hash_set<std::string> pools;
    for (const v1::PoolConfig& pool : config_.pools()) pools.insert(pool.name());
    absl::flat_hash_map<std::string, int> names;
    absl::flat_hash_map<uint32_t, std::string> uids;
    for (int i = 0; i < config_.tenants_size(); ++i) {
      const v1::TenantConfig& tenant = config_.tenants(i);
      const std::string path = absl::StrCat("tenants[", i, "]");
      if (tenant.name().empty()) return Error(path + ".name", "is required");
      // It stands in logs, metrics and tables, between quotes or nothing.
      for (const char c : tenant.name()) {
        if (c >= ' ' && c <= '~' && c != '"' && c != '\'' && c != '\\' && c != '`') continue;
        return Error(path + ".name",
                     absl::StrFormat("has the byte 0x%02x; printable ASCII is allowed, without "
                                     "quotes and backslashes",
                                     static_cast<unsigned char>(c)));
      }
      const auto [other, added] = names.try_emplace(tenant.name(), i);
      if (!added) {
        return Error(path + ".name", absl::StrCat("`", tenant.name(), "` is the name of tenants[",
                                                  other->second, "] as well"));
      }
      if (tenant.uids().empty())
        return Error(path + ".uids", "is required: a tenant without uids has no processes");
      for (int u = 0; u < tenant.uids_size(); ++u) {
        const auto [owner, first] = uids.try_emplace(tenant.uids(u), tenant.name());
        if (!first) {
          return Error(absl::StrCat(path, ".uids[", u, "]"),
                       absl::StrCat("uid ", tenant.uids(u), " belongs to tenant `", owner->second,
                                    "` already"));
        }
      }
      for (const auto& quota : tenant.quota_bytes()) {
        if (!pools.contains(quota.first)) {
          return Error(absl::StrCat(path, ".quota_bytes.", quota.first),
                       "there is no pool of this name");
        }
        // What a tenant holds is counted in segments: the rest of a quota could never be used.
        const uint64_t segment = config_.memory().segment_bytes();
        if (quota.second < segment || quota.second % segment != 0) {
          return Error(absl::StrCat(path, ".quota_bytes.", quota.first),
                       absl::StrCat(SizeText(quota.second),
                                    quota.second < segment ? ": less than one segment"
                                                           : ": not a whole number of segments",
                                    " (memory.segment_bytes is ", SizeText(segment), ")"));
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckPolicy() const {
    const v1::PolicyConfig& policy = config_.policy();
    if (policy.name() != "static") {
      if (policy.static_share().empty()) return absl::OkStatus();
      return Error("policy.static_share",
                   absl::StrCat("is of policy static; policy.name is ", policy.name()));
    }
    if (policy.static_share_size() != config_.pools_size()) {
      return Error("policy.static_share",
                   absl::StrCat("has ", policy.static_share_size(), " entries for ",
                                config_.pools_size(), " pools"));
    }
    double sum = 0;
    for (const double share : policy.static_share()) sum += share;
    if (std::abs(sum - 1) > 1e-6) {
      return Error("policy.static_share", absl::StrCat("sums to ", sum, ", not to 1"));
    }
    return absl::OkStatus();
  }

  absl::Status CheckLimits() const {
    const v1::LimitsConfig& limits = config_.limits();
    if (limits.lease_ttl_ms() > limits.lease_ttl_max_ms()) {
      return Error("limits.lease_ttl_ms",
                   absl::StrCat(DurationText(limits.lease_ttl_ms()),
                                " is more than limits.lease_ttl_max_ms, which is ",
                                DurationText(limits.lease_ttl_max_ms())));
    }
    if (limits.watch_streams_max() + kThreadsBesideWatches > limits.rpc_threads_max()) {
      return Error(
          "limits.watch_streams_max",
          absl::StrCat(limits.watch_streams_max(), " and ", kThreadsBesideWatches,
                       " threads for other calls are more than limits.rpc_threads_max, which is ",
                       limits.rpc_threads_max()));
    }
    return absl::OkStatus();
  }

  const v1::Config& config_;
  const ConfigOrigins& origins_;
};

}  // namespace

absl::Status CheckConfig(const v1::Config& config, const ConfigOrigins& origins) {
  return ConfigChecker(config, origins).Check();
}

std::vector<std::string> ConfigWarnings(const v1::Config& config) {
  std::vector<std::string> warnings;
  for (const v1::PoolConfig& pool : config.pools()) {
    // 64 tenants and 64TiB at most: no sum overflows.
    uint64_t promised_bytes = 0;
    for (const v1::TenantConfig& tenant : config.tenants()) {
      const auto quota = tenant.quota_bytes().find(pool.name());
      const bool given = quota != tenant.quota_bytes().end();
      promised_bytes += given ? quota->second : pool.budget_bytes();
      if (!given || quota->second <= pool.budget_bytes()) continue;
      warnings.push_back(absl::StrCat(
          "tenant ", tenant.name(), " can never have its quota of pool ", pool.name(), ": it is ",
          SizeText(quota->second), ", the pool's budget is ", SizeText(pool.budget_bytes())));
    }
    if (config.tenants_size() < 2 || promised_bytes <= pool.budget_bytes()) continue;
    warnings.push_back(absl::StrCat("tenants can crowd each other out in pool ", pool.name(),
                                    ": their quotas are ", SizeText(promised_bytes),
                                    " together, the pool's budget is ",
                                    SizeText(pool.budget_bytes())));
  }
  return warnings;
}

std::vector<std::string> NodeWarnings(const v1::Config& config, const Topology& topology) {
  std::vector<std::string> nodes;
  for (const NumaNode& node : topology.nodes) {
    if (!node.is_gpu_memory) nodes.push_back(absl::StrCat(node.os_index));
  }
  std::vector<std::string> warnings;
  for (int i = 0; i < config.pools_size(); ++i) {
    const std::string node = absl::StrCat(config.pools(i).numa_node());
    if (config.pools(i).numa_node() < 0 ||
        std::find(nodes.begin(), nodes.end(), node) != nodes.end()) {
      continue;
    }
    warnings.push_back(absl::StrCat("pools[", i, "].numa_node: this machine has no NUMA node ",
                                    node, " for host memory (it has ", absl::StrJoin(nodes, ", "),
                                    "): kvtierd starts so on another machine only"));
  }
  return warnings;
}

absl::StatusOr<HttpAddress> ParseHttpAddress(absl::string_view text) {
  const size_t colon = text.rfind(':');
  HttpAddress address;
  if (colon == absl::string_view::npos ||
      !absl::SimpleAtoi(text.substr(colon + 1), &address.port) || address.port < 0 ||
      address.port > 65'535) {
    return absl::InvalidArgumentError(
        absl::StrCat("`", text.substr(0, 80), "` is not ADDRESS:PORT with a port of 0 to 65535"));
  }
  absl::string_view host = text.substr(0, colon);
  in6_addr parsed{};
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    address.host = std::string(host.substr(1, host.size() - 2));
    if (inet_pton(AF_INET6, address.host.c_str(), &parsed) == 1) return address;
  } else {
    address.host = std::string(host);
    if (inet_pton(AF_INET, address.host.c_str(), &parsed) == 1) return address;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "`", host.substr(0, 80), "` is not an IPv4 address or an IPv6 address in brackets"));
}

}  // namespace kvtier
