// Messages of the shared-memory socket: Unix SEQPACKET, one struct a packet, little-endian, no
// padding that is not zero. Both ends check the size and `type` before anything else.
//
//   client                                daemon
//   HelloRequest                    →
//                                   ←     HelloReply + fds {index, client page}
//   SegmentRequest                  →
//                                   ←     SegmentReply + fd {segment}
//   SegmentMapped (writable ones)   →
//                                   ←     SegmentSealed
//   Goodbye, and closes             →
//
// The client sends one request at a time. What it was given for writing and does not say that it
// mapped goes back with its next request; it may ask for it again. Closing the socket ends the
// attachment once the process has ended too, or said goodbye before: then it has unmapped
// everything. Until then the same process may go on with a new socket (HelloRequest::resume),
// whatever became of the last one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvtier::wire {

// What is added to the path of the gRPC socket.
inline constexpr char kAttachSocketSuffix[] = ".shm";
inline constexpr uint32_t kAttachMajor = 1;
inline constexpr uint32_t kAttachMinor = 1;
// "kvtierat", little-endian.
inline constexpr uint64_t kAttachMagic = 0x746172656974766b;

enum class AttachType : uint32_t {
  kHelloRequest = 1,
  kHelloReply,
  kSegmentRequest,
  kSegmentReply,
  kSegmentMapped,
  kSegmentSealed,
  kGoodbye,
};

inline constexpr uint32_t kAttachTextBytes = 232;

struct HelloRequest {
  AttachType type = AttachType::kHelloRequest;
  uint32_t major = kAttachMajor;
  uint64_t magic = kAttachMagic;
  uint32_t minor = kAttachMinor;
  // 1: this process attached the session before and goes on with what it has mapped. NOT_FOUND: it
  // did not, or has ended.
  uint32_t resume = 0;
  uint64_t session_id = 0;
  uint64_t daemon_epoch = 0;
};
static_assert(sizeof(HelloRequest) == 40 && offsetof(HelloRequest, major) == 4 &&
              offsetof(HelloRequest, magic) == 8 && offsetof(HelloRequest, minor) == 16 &&
              offsetof(HelloRequest, resume) == 20 && offsetof(HelloRequest, session_id) == 24 &&
              offsetof(HelloRequest, daemon_epoch) == 32);

// With code 0 two fds come along, to one that resumes none.
struct HelloReply {
  AttachType type = AttachType::kHelloReply;
  uint32_t code = 0;  // absl::StatusCode
  uint32_t major = kAttachMajor;
  uint32_t minor = kAttachMinor;
  uint64_t index_bytes = 0;
  uint64_t client_page_bytes = 0;
  char text[kAttachTextBytes] = {};  // of an error, zero-terminated
};
static_assert(sizeof(HelloReply) == 32 + kAttachTextBytes && offsetof(HelloReply, code) == 4 &&
              offsetof(HelloReply, index_bytes) == 16 &&
              offsetof(HelloReply, client_page_bytes) == 24 && offsetof(HelloReply, text) == 32);

enum class SegmentAccess : uint32_t { kRead = 1, kWrite = 2 };

// Names a segment as a ResidencyWord does. SegmentMapped has the same fields.
struct SegmentRequest {
  AttachType type = AttachType::kSegmentRequest;
  SegmentAccess access = SegmentAccess::kRead;
  uint32_t pool = 0;
  uint32_t segment = 0;
  uint32_t incarnation = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(SegmentRequest) == 24 && offsetof(SegmentRequest, access) == 4 &&
              offsetof(SegmentRequest, pool) == 8 && offsetof(SegmentRequest, segment) == 12 &&
              offsetof(SegmentRequest, incarnation) == 16);

// With code 0 one fd comes along. NOT_FOUND: another incarnation is there by now, or another
// tenant's.
struct SegmentReply {
  AttachType type = AttachType::kSegmentReply;
  uint32_t code = 0;
  uint64_t segment_bytes = 0;
  uint64_t slot_bytes = 0;
  char text[kAttachTextBytes] = {};  // the pool's name, or of an error; zero-terminated
};
static_assert(sizeof(SegmentReply) == 24 + kAttachTextBytes && offsetof(SegmentReply, code) == 4 &&
              offsetof(SegmentReply, segment_bytes) == 8 &&
              offsetof(SegmentReply, slot_bytes) == 16 && offsetof(SegmentReply, text) == 24);

struct SegmentMapped {
  AttachType type = AttachType::kSegmentMapped;
  SegmentAccess access = SegmentAccess::kWrite;
  uint32_t pool = 0;
  uint32_t segment = 0;
  uint32_t incarnation = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(SegmentMapped) == 24 && offsetof(SegmentMapped, incarnation) == 16);

// From here on nobody can map it writable any more.
struct SegmentSealed {
  AttachType type = AttachType::kSegmentSealed;
  uint32_t code = 0;
};
static_assert(sizeof(SegmentSealed) == 8 && offsetof(SegmentSealed, code) == 4);

// The client has nothing mapped any more: no segment, no index, not its page. There is no answer,
// and nothing comes after it.
struct Goodbye {
  AttachType type = AttachType::kGoodbye;
  uint32_t reserved = 0;
};
static_assert(sizeof(Goodbye) == 8);

}  // namespace kvtier::wire
