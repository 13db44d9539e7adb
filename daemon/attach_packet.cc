#include "daemon/attach_packet.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "tiering/base/check.h"

namespace kvtier {
namespace {

constexpr size_t kRequestBytesMax = std::max(
    {sizeof(wire::HelloRequest), sizeof(wire::SegmentRequest), sizeof(wire::SegmentMapped)});
constexpr size_t kFdsMax = 2;

template <typename Message>
bool Decode(const std::byte* packet, size_t bytes, AttachRequest& request) {
  if (bytes != sizeof(Message)) return false;
  Message message;
  std::memcpy(&message, packet, sizeof message);
  request = message;
  return true;
}

}  // namespace

Receipt ReceiveRequest(int socket, AttachRequest& request, absl::string_view& reason) {
  std::array<std::byte, kRequestBytesMax> packet;
  iovec part{.iov_base = packet.data(), .iov_len = packet.size()};
  // Without room for them the kernel closes descriptors that come along, and says so.
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  const ssize_t received = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (received < 0) {
    return errno == EAGAIN || errno == EINTR ? Receipt::kNothing : Receipt::kEnd;
  }
  // An empty packet looks like the end, and ends it.
  if (received == 0) return Receipt::kEnd;
  reason = "descriptors in a request";
  if ((header.msg_flags & MSG_CTRUNC) != 0) return Receipt::kInvalid;
  reason = "a packet of the wrong size";
  if ((header.msg_flags & MSG_TRUNC) != 0) return Receipt::kInvalid;
  const auto bytes = static_cast<size_t>(received);
  wire::AttachType type{};
  if (bytes < sizeof type) return Receipt::kInvalid;
  std::memcpy(&type, packet.data(), sizeof type);
  bool decoded = false;
  switch (type) {
    case wire::AttachType::kHelloRequest:
      decoded = Decode<wire::HelloRequest>(packet.data(), bytes, request);
      break;
    case wire::AttachType::kSegmentRequest:
      decoded = Decode<wire::SegmentRequest>(packet.data(), bytes, request);
      break;
    case wire::AttachType::kSegmentMapped:
      decoded = Decode<wire::SegmentMapped>(packet.data(), bytes, request);
      break;
    case wire::AttachType::kGoodbye:
      decoded = Decode<wire::Goodbye>(packet.data(), bytes, request);
      break;
    default:
      reason = "a packet of no known type";
      return Receipt::kInvalid;
  }
  return decoded ? Receipt::kRequest : Receipt::kInvalid;
}

bool SendPacket(int socket, const void* packet, size_t bytes, absl::Span<const int> fds) {
  KVTIER_CHECK(fds.size() <= kFdsMax);
  iovec part{.iov_base = const_cast<void*>(packet), .iov_len = bytes};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kFdsMax * sizeof(int))] = {};
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t sent = -1;
  do {
    sent = sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(bytes);
}

bool AllTaken(int socket) {
  int queued = 0;
  return ioctl(socket, SIOCOUTQ, &queued) == 0 && queued == 0;
}

}  // namespace kvtier
