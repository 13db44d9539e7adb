// Calls of the operators' service.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/daemon_channel.h"
#include "grpcpp/client_context.h"
#include "kvtier/v1/admin.grpc.pb.h"

namespace kvtier::cli {

// Not thread-safe.
class AdminClient {
 public:
  // UNAVAILABLE names the socket.
  static absl::StatusOr<AdminClient> Connect(const std::string& socket);

  // For example Call(&v1::Admin::Stub::Status, request, reply). DEADLINE_EXCEEDED after `timeout`.
  template <typename Request, typename Reply>
  absl::Status Call(grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*, const Request&,
                                                            Reply*),
                    const Request& request, Reply& reply,
                    absl::Duration timeout = absl::Seconds(10)) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    return Explain(StatusFromGrpc((stub_.get()->*method)(&context, request, &reply)), timeout);
  }

 private:
  AdminClient(std::string socket, std::unique_ptr<v1::Admin::Stub> stub)
      : socket_(std::move(socket)), stub_(std::move(stub)) {}
  absl::Status Explain(absl::Status status, absl::Duration timeout) const;

  std::string socket_;
  std::unique_ptr<v1::Admin::Stub> stub_;
};

// This program's protocol version, for requests that carry one.
v1::Version ProtocolVersion();

}  // namespace kvtier::cli
