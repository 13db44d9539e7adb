// What fields of a configuration must agree on with each other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/config_mapper.h"
#include "kvtier/v1/config.pb.h"

namespace kvtier {

// INVALID_ARGUMENT "origin: path: ..." naming both numbers. Single fields are already in range.
absl::Status CheckConfig(const v1::Config& config, const ConfigOrigins& origins);

// A pool that the quotas of several tenants (by default each the whole budget) promise more than
// once: whoever comes first can fill it, and the others get RESOURCE_EXHAUSTED below their quotas,
// as nobody evicts another tenant's blocks. Allowed, but worth a warning.
struct CrowdedPool {
  std::string name;
  uint64_t budget_bytes = 0;
  uint64_t quota_bytes = 0;  // of all tenants together
};
std::vector<CrowdedPool> FindCrowdedPools(const v1::Config& config);

// Splits "127.0.0.1:9400" or "[::1]:9400". INVALID_ARGUMENT says what is wrong with it.
struct HttpAddress {
  std::string host;
  int port = 0;
};
absl::StatusOr<HttpAddress> ParseHttpAddress(absl::string_view text);

}  // namespace kvtier
