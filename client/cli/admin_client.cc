#include "client/cli/admin_client.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/version.h"

namespace kvtier::cli {

absl::StatusOr<AdminClient> AdminClient::Connect(const std::string& socket) {
  auto channel = ConnectDaemonChannel(socket);
  if (!channel.ok()) return channel.status();
  return AdminClient(socket, v1::Admin::NewStub(*channel));
}

absl::Status AdminClient::Explain(absl::Status status, absl::Duration timeout) const {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      if (absl::Status refused = DaemonRefusal(socket_); !refused.ok()) return refused;
      return absl::UnavailableError(absl::StrCat("kvtierd at ", socket_, ": ", status.message()));
    case absl::StatusCode::kDeadlineExceeded:
      return absl::UnavailableError(absl::StrCat("kvtierd at ", socket_, " did not answer within ",
                                                 absl::FormatDuration(timeout)));
    default:
      return status;
  }
}

v1::Version ProtocolVersion() {
  v1::Version version;
  version.set_major(wire::kProtocolMajor);
  version.set_minor(wire::kProtocolMinor);
  return version;
}

}  // namespace kvtier::cli
