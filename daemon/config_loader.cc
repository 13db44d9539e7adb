#include "daemon/config_loader.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "daemon/config_check.h"
#include "daemon/config_defaults.h"
#include "daemon/config_mapper.h"
#include "proto/yaml/config_tree.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

constexpr uint64_t kPoolMiB = 1ull << 20;
constexpr uint32_t kOwnerOnly = 0600;
constexpr uint32_t kEveryone = 0666;

std::string DefaultSocket() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  return runtime != nullptr && *runtime != '\0' ? absl::StrCat(runtime, "/kvtier/kvtierd.sock")
                                                : "/run/kvtier/kvtierd.sock";
}

// Small enough to start anywhere; both pools grow by segments, so nothing is taken before it is
// needed.
void AddDefaultPools(v1::Config* config) {
  for (const auto& [name, kind, budget] : {std::tuple("hbm:0", "hbm", 256 * kPoolMiB),
                                           std::tuple("dram:0", "dram", 1024 * kPoolMiB)}) {
    v1::PoolConfig* pool = config->add_pools();
    pool->set_name(name);
    pool->set_kind(kind);
    pool->set_budget_bytes(budget);
    pool->set_numa_node(-1);
  }
}

// Defaults that the table can only describe.
void FillDescribedDefaults(const ConfigOrigins& origins, v1::Config* config) {
  if (config->listen().socket().empty()) config->mutable_listen()->set_socket(DefaultSocket());
  if (!origins.contains("pools")) AddDefaultPools(config);
  if (!origins.contains("tenants")) {
    v1::TenantConfig* tenant = config->add_tenants();
    tenant->set_name("default");
    tenant->add_uids(getuid());
    tenant->set_admin(true);
  }
  if (!origins.contains("listen.socket_mode")) {
    uint32_t mode = kOwnerOnly;
    for (const v1::TenantConfig& tenant : config->tenants()) {
      for (const uint32_t uid : tenant.uids()) {
        if (uid != getuid()) mode = kEveryone;
      }
    }
    config->mutable_listen()->set_socket_mode(mode);
  }
}

constexpr absl::string_view kOverride = "--set";

// "limits.leases_max=10" as the tree {limits: {leases_max: 10}}.
absl::StatusOr<ConfigNode> OverrideTree(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(kOverride, " ", text, ": expected path.of.field=value"));
  }
  const std::string path = text.substr(0, equals);
  if (const size_t bracket = path.find('['); bracket != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(kOverride, ": ", path,
                                                   ": a list is replaced as a whole: --set '",
                                                   path.substr(0, bracket), "=[...]'"));
  }
  const std::vector<std::string> steps = absl::StrSplit(path, '.');
  if (steps.size() > kConfigDepthMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(kOverride, ": a path of ", steps.size(), " steps; at most ", kConfigDepthMax));
  }
  KVTIER_ASSIGN_OR_RETURN(
      ConfigNode node,
      ParseConfigValue(absl::string_view(text).substr(equals + 1), kOverride, path));
  for (size_t i = steps.size(); i-- > 0;) {
    ConfigNode around;
    around.kind = ConfigNode::Kind::kMap;
    around.keys.push_back(steps[i]);
    around.key_lines.push_back(0);
    around.children.push_back(std::move(node));
    node = std::move(around);
  }
  return node;
}

}  // namespace

absl::StatusOr<v1::Config> LoadConfig(absl::string_view yaml, absl::string_view name,
                                      absl::Span<const std::string> overrides) {
  v1::Config config;
  ConfigOrigins origins;
  ApplyConfigDefaults("", &config);
  KVTIER_ASSIGN_OR_RETURN(const ConfigNode root, ParseConfigTree(yaml, name));
  KVTIER_RETURN_IF_ERROR(MapConfigTree(root, name, &config, &origins));
  for (const std::string& text : overrides) {
    KVTIER_ASSIGN_OR_RETURN(const ConfigNode tree, OverrideTree(text));
    KVTIER_RETURN_IF_ERROR(MapConfigTree(tree, kOverride, &config, &origins));
  }
  FillDescribedDefaults(origins, &config);
  KVTIER_RETURN_IF_ERROR(CheckConfig(config, origins));
  return config;
}

absl::StatusOr<v1::Config> LoadConfigFile(const std::string& path,
                                          absl::Span<const std::string> overrides) {
  const auto failed = [&path] {
    const std::string message = absl::StrCat(path, ": ", std::strerror(errno));
    if (errno == EACCES || errno == EPERM) return absl::PermissionDeniedError(message);
    return absl::NotFoundError(message);
  };
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed();
  std::string yaml(kConfigBytesMax + 1, '\0');
  size_t filled = 0;
  ssize_t got = 0;
  while (filled < yaml.size() && (got = read(fd, yaml.data() + filled, yaml.size() - filled)) > 0) {
    filled += static_cast<size_t>(got);
  }
  if (got < 0) {
    const absl::Status status = failed();
    close(fd);
    return status;
  }
  close(fd);
  yaml.resize(filled);
  return LoadConfig(yaml, path, overrides);
}

}  // namespace kvtier
