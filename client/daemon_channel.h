// A gRPC channel over one connection to a kvtierd's Unix socket.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/channel.h"
#include "grpcpp/support/status.h"

namespace kvtier {

// Connects without waiting and returns a channel that lives as long as this one connection: it
// never connects again by itself, so a call can never reach another daemon than the one that it was
// meant for. UNAVAILABLE names the socket and why nobody answers; PERMISSION_DENIED: the socket's
// mode forbids it; INVALID_ARGUMENT: the path is too long for a Unix socket. Thread-safe.
absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectDaemonChannel(const std::string& socket);

// OK where anybody listens there, else as ConnectDaemonChannel. Makes no channel, and so no thread.
absl::Status CheckDaemonListens(const std::string& socket);

// Why a kvtierd that listens there refuses connections of this user: PERMISSION_DENIED, a user of
// no tenant; RESOURCE_EXHAUSTED, the tenant's limit of connections. OK when it does not, or nobody
// listens. For saying why a call failed: takes up to 200 ms.
absl::Status DaemonRefusal(const std::string& socket);

// The same code and message; gRPC's codes are Abseil's.
absl::Status StatusFromGrpc(const grpc::Status& status);

}  // namespace kvtier
