#include "client/cli/admin_client.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "proto/wire/version.h"

namespace kvtier::cli {
namespace {

// How long a daemon that refused a session may take to say that it is there.
constexpr absl::Duration kProbeTimeout = absl::Seconds(2);

absl::Status Unreached(absl::Status status) {
  return absl::IsUnavailable(status) ? NoDaemonError(std::move(status)) : status;
}

}  // namespace

absl::StatusOr<AdminClient> AdminClient::Connect(const std::string& socket) {
  auto channel = ConnectDaemonChannel(socket);
  if (!channel.ok()) return Unreached(channel.status());
  return AdminClient(socket, v1::Admin::NewStub(*channel));
}

absl::Status AdminClient::Explain(absl::Status status, absl::Duration timeout) {
  const auto unavailable = [this](std::string message) {
    absl::Status error = absl::UnavailableError(absl::StrCat("kvtierd at ", socket_, message));
    return answered_ ? error : NoDaemonError(std::move(error));
  };
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      if (absl::Status refused = DaemonRefusal(socket_); !refused.ok()) return refused;
      return unavailable(absl::StrCat(": ", status.message()));
    case absl::StatusCode::kDeadlineExceeded:
      return unavailable(absl::StrCat(" did not answer within ", absl::FormatDuration(timeout)));
    default:
      answered_ = true;
      return status;
  }
}

absl::StatusOr<std::unique_ptr<Client>> ConnectClient(const std::string& socket,
                                                      const std::string& name) {
  auto client = Client::Connect({.socket = socket, .name = name});
  if (client.ok() || !absl::IsUnavailable(client.status())) return client;
  auto admin = AdminClient::Connect(socket);
  if (!admin.ok()) return NoDaemonError(client.status());
  v1::StatusRequest request;
  *request.mutable_version() = ProtocolVersion();
  v1::StatusReply reply;
  const absl::Status answer = admin->Call(&v1::Admin::Stub::Status, request, reply, kProbeTimeout);
  return answer.ok() ? client.status() : NoDaemonError(client.status());
}

v1::Version ProtocolVersion() {
  v1::Version version;
  version.set_major(wire::kProtocolMajor);
  version.set_minor(wire::kProtocolMinor);
  return version;
}

}  // namespace kvtier::cli
