// What fields of a configuration must agree on with each other.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "daemon/config_mapper.h"
#include "kvtier/v1/config.pb.h"

namespace kvtier {

// INVALID_ARGUMENT "origin: path: ..." naming both numbers. Single fields are already in range.
absl::Status CheckConfig(const v1::Config& config, const ConfigOrigins& origins);

// Splits "127.0.0.1:9400" or "[::1]:9400". INVALID_ARGUMENT says what is wrong with it.
struct HttpAddress {
  std::string host;
  int port = 0;
};
absl::StatusOr<HttpAddress> ParseHttpAddress(absl::string_view text);

}  // namespace kvtier
