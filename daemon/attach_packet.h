// Packets of the attach socket: what came, checked, and what is sent.
#pragma once

#include <cstdint>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/wire/attach_messages.h"

namespace kvtier {

using AttachRequest =
    std::variant<wire::HelloRequest, wire::SegmentRequest, wire::SegmentMapped, wire::Goodbye>;

enum class Receipt : uint8_t {
  kRequest,
  kNothing,  // no packet is there
  kEnd,      // the client closed the socket, or it broke
  kInvalid,  // something that no client of this protocol sends
};

// Takes one packet, without waiting. A request has the size of its type and no descriptors; any
// that came are closed. `client` is told what was wrong with an invalid one by `reason`.
Receipt ReceiveRequest(int socket, AttachRequest& request, absl::string_view& reason);

// Sends one packet with descriptors, which stay the caller's, without waiting. False when it cannot
// be sent: the client is gone, or does not take what it asks for.
bool SendPacket(int socket, const void* packet, size_t bytes, absl::Span<const int> fds);
template <typename Message>
bool SendMessage(int socket, const Message& message, absl::Span<const int> fds = {}) {
  return SendPacket(socket, &message, sizeof message, fds);
}
// Whether the client has taken every packet that was sent to it.
bool AllTaken(int socket);

// Text of a reply, cut where it does not fit.
template <typename Reply>
void SetText(absl::string_view text, Reply& reply) {
  const size_t length = text.copy(reply.text, sizeof reply.text - 1);
  reply.text[length] = '\0';
}
// Code and text of a reply.
template <typename Reply>
void SetStatus(const absl::Status& status, Reply& reply) {
  reply.code = static_cast<uint32_t>(status.code());
  SetText(status.message(), reply);
}

}  // namespace kvtier
