// absl::Status and grpc::Status: the same codes, numbered the same.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace kvtier {

// Messages are cut at 1 KiB: they travel in a header, which has a limit of its own.
grpc::Status ToGrpcStatus(const absl::Status& status);
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace kvtier
