// Calls of the operators' service.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/daemon_channel.h"
#include "grpcpp/client_context.h"
#include "kvtier/client.h"
#include "kvtier/v1/admin.grpc.pb.h"

namespace kvtier::cli {

// Not thread-safe.
class AdminClient {
 public:
  // UNAVAILABLE names the socket; exit code 3.
  static absl::StatusOr<AdminClient> Connect(const std::string& socket);

  // For example Call(&v1::Admin::Stub::Status, request, reply). UNAVAILABLE: no answer within
  // `timeout`, or the daemon has gone; exit code 3 unless it has answered an earlier call.
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
  absl::Status Explain(absl::Status status, absl::Duration timeout);

  std::string socket_;
  bool answered_ = false;
  std::unique_ptr<v1::Admin::Stub> stub_;
};

// A client library's client. An error has exit code 3 if nobody answers on the socket, and not if a
// daemon does that refuses: one that drains, for example.
absl::StatusOr<std::unique_ptr<Client>> ConnectClient(const std::string& socket,
                                                      const std::string& name);

// This program's protocol version, for requests that carry one.
v1::Version ProtocolVersion();

}  // namespace kvtier::cli
