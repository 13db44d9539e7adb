#include "client/daemon_channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "grpcpp/create_channel_posix.h"
#include "grpcpp/support/channel_arguments.h"

namespace kvtier {
namespace {

// Replies are small but for listings of blocks and pieces of streams, which the daemon keeps below
// 4 MiB.
constexpr int kMessageBytesMax = 16 << 20;

constexpr const char* kHint = "start kvtierd, or name its socket ($KVTIER_SOCKET)";

absl::Status ConnectError(const std::string& socket, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::UnavailableError(
          absl::StrCat("no kvtierd at ", socket, ": there is no such socket; ", kHint));
    case ECONNREFUSED:
      return absl::UnavailableError(
          absl::StrCat("no kvtierd at ", socket, ": nothing listens on that socket; ", kHint));
    case EAGAIN:
      return absl::UnavailableError(
          absl::StrCat("kvtierd at ", socket, " does not accept connections: its queue is full"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(absl::StrCat("no permission to connect to ", socket,
                                                      ": see listen.socket_mode of kvtierd"));
    default:
      return absl::UnavailableError(
          absl::StrCat("cannot connect to ", socket, ": ", std::strerror(error)));
  }
}

// A connected, non-blocking socket.
absl::StatusOr<int> ConnectSocket(const std::string& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.empty() || socket.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("socket path \"", socket, "\" has ",
                                                   socket.size(), " bytes, the limit is 1 to ",
                                                   sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path, socket.data(), socket.size());
  // Non-blocking: where the daemon is stopped and its queue full, connect would wait for ever.
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot make a Unix socket: ", std::strerror(errno)));
  }
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    ::close(fd);
    return ConnectError(socket, error);
  }
  return fd;
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectDaemonChannel(const std::string& socket) {
  const absl::StatusOr<int> fd = ConnectSocket(socket);
  if (!fd.ok()) return fd.status();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  return grpc::CreateCustomInsecureChannelFromFd("kvtierd", *fd, arguments);
}

absl::Status CheckDaemonListens(const std::string& socket) {
  const absl::StatusOr<int> fd = ConnectSocket(socket);
  if (fd.ok()) ::close(*fd);
  return fd.status();
}

absl::Status DaemonRefusal(const std::string& socket) {
  // A server that takes the connection speaks first: HTTP/2 settings. One that does not says GOAWAY
  // as well, all in one piece; to a uid of no tenant it says nothing. Nor does a daemon that is
  // killed in this moment, but nobody answers after it, or another daemon does.
  char bytes[512];
  ssize_t got = 0;
  for (int tries = 0; tries < 2 && got <= 0; ++tries) {
    const absl::StatusOr<int> fd = ConnectSocket(socket);
    if (!fd.ok()) return absl::OkStatus();
    pollfd waits{*fd, POLLIN, 0};
    got = ::poll(&waits, 1, 200) == 1 ? ::recv(*fd, bytes, sizeof(bytes), 0) : sizeof(bytes);
    ::close(*fd);
  }
  if (got <= 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("kvtierd at ", socket, " refuses connections of uid ", ::getuid(),
                     ": no tenant of its configuration has that uid"));
  }
  // Empty settings, then the head of a GOAWAY with its length, then 8 bytes before the reason.
  constexpr char kEmptySettings[] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
  constexpr ssize_t kTypeAt = 12;
  constexpr ssize_t kReasonAt = 26;
  constexpr char kGoAway = 7;
  if (got <= kReasonAt || got == sizeof(bytes) || bytes[kTypeAt] != kGoAway ||
      std::memcmp(bytes, kEmptySettings, sizeof(kEmptySettings)) != 0) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("kvtierd at ", socket, " refuses the connection: ",
                   absl::string_view(bytes + kReasonAt, static_cast<size_t>(got - kReasonAt))));
}

absl::Status StatusFromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace kvtier
