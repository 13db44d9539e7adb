// A client of shared memory that is not kvtier's: the attach socket by system calls, the calls by
// bare stubs. For tests of what the daemon does with one that is hostile.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "kvtier/v1/kv_cache.grpc.pb.h"
#include "proto/wire/attach_messages.h"
#include "proto/wire/client_page.h"
#include "proto/wire/residency_word.h"

namespace kvtier::test_support {

// One connection to the attach socket and what came over it. Only system calls, so that a forked
// child may use it. Not thread-safe.
class RawChannel {
 public:
  // What came instead of a reply: nothing, as the daemon closed the channel.
  static constexpr uint32_t kClosed = 1000;

  RawChannel() = default;
  ~RawChannel();
  RawChannel(const RawChannel&) = delete;
  RawChannel& operator=(const RawChannel&) = delete;

  bool Connect(const std::string& path);
  void Disconnect();
  bool connected() const { return fd_ >= 0; }
  int fd() const { return fd_; }

  bool Send(const void* packet, size_t bytes, absl::Span<const int> fds = {}) const;
  // Bytes of the next packet; 0: the daemon closed the channel; -1: nothing came.
  ssize_t Receive(void* packet, size_t bytes, int* fds, size_t& fd_count) const;

  // Each returns the reply's code, whose text is in `text`.
  uint32_t Hello(uint64_t session, uint64_t daemon_epoch);
  uint32_t Hello(const wire::HelloRequest& request);
  uint32_t Segment(wire::ResidencyWord word, wire::SegmentAccess access);
  uint32_t Mapped(wire::ResidencyWord word);

  int index_fd() const { return index_fd_; }
  uint64_t index_bytes() const { return index_bytes_; }
  int page_fd() const { return page_fd_; }
  // Of the last segment.
  int segment_fd() const { return segment_fd_; }
  const wire::SegmentReply& segment() const { return segment_; }
  char text[wire::kAttachTextBytes] = {};

 private:
  int fd_ = -1;
  int index_fd_ = -1;
  int page_fd_ = -1;
  int segment_fd_ = -1;
  uint64_t index_bytes_ = 0;
  wire::SegmentReply segment_;
};

// Maps all of a descriptor; null if the kernel refuses.
std::byte* MapWhole(int fd, uint64_t bytes, bool writable);

// A session over bare stubs, with a model of one plane.
class RawSession {
 public:
  static constexpr uint64_t kBlockBytes = 65'536;

  // Attaches; `pid` 0: not bound to a process. Null, with a failure noted, when it cannot.
  static std::unique_ptr<RawSession> Attach(const std::string& socket, pid_t pid);

  uint64_t id() const { return id_; }
  uint64_t daemon_epoch() const { return daemon_epoch_; }
  const std::string& attach_socket() const { return attach_socket_; }

  grpc::Status Reserve(uint32_t chunks, bool in_place, v1::ReserveReply& reply);
  grpc::Status Store(uint64_t reservation, uint32_t chunk, const std::string& bytes);
  // The chunk named `name` with the checksum of `bytes`; the outcome is in the reply.
  v1::CommitReply::Chunk Commit(uint64_t reservation, uint32_t chunk, const std::string& name,
                                const std::string& bytes);
  // Reserve, store, commit.
  bool StoreChunk(const std::string& name, const std::string& bytes);
  grpc::Status Lease(const std::string& name, v1::LookupReply& reply);
  v1::LookupReply Lookup(const std::string& name);  // Lease, which has to succeed
  // Code of the block of a lease's first chunk; its bytes where that is 0.
  int32_t Fetch(uint64_t lease, std::string& bytes);
  void Release(uint64_t lease);
  uint32_t Forget(const std::string& name);
  grpc::Status CheckBlock(uint64_t row, wire::ResidencyWord word, bool& dropped);
  void Detach();

 private:
  RawSession() = default;
  template <typename Method, typename Request, typename Reply>
  grpc::Status Call(Method method, const Request& request, Reply& reply);

  std::unique_ptr<v1::KvCache::Stub> kv_;
  uint64_t id_ = 0;
  uint64_t daemon_epoch_ = 0;
  std::string attach_socket_;
  uint32_t model_ = 0;
};

// Bytes of one block that differ between seeds.
std::string RawBlock(uint64_t seed);

}  // namespace kvtier::test_support
