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
#include "tiering/topology/topology.h"

namespace kvtier {

// INVALID_ARGUMENT "origin: path: ..." naming both numbers. Single fields are already in range.
absl::Status CheckConfig(const v1::Config& config, const ConfigOrigins& origins);

// What is allowed but worth a word to the operator, a sentence each: quotas beyond a pool's budget,
// and pools that the quotas of several tenants (by default each the whole budget) promise more than
// once. Whoever comes first can fill such a pool, and the others get RESOURCE_EXHAUSTED below their
// quotas, as nobody evicts another tenant's blocks.
std::vector<std::string> ConfigWarnings(const v1::Config& config);

// Pools on NUMA nodes that the machine does not have, or that are a GPU's memory: a daemon does not
// start so, but the configuration may be another machine's.
std::vector<std::string> NodeWarnings(const v1::Config& config, const Topology& topology);

// Splits "127.0.0.1:9400" or "[::1]:9400". INVALID_ARGUMENT says what is wrong with it.
struct HttpAddress {
  std::string host;
  int port = 0;
};
absl::StatusOr<HttpAddress> ParseHttpAddress(absl::string_view text);

}  // namespace kvtier
