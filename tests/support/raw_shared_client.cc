#include "tests/support/raw_shared_client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "proto/wire/checksum.h"
#include "proto/wire/version.h"
#include "tests/support/daemon_fixture.h"

namespace kvtier::test_support {
namespace {

constexpr size_t kFdsMax = 4;
constexpr int kPatienceMs = 20'000;
constexpr uint32_t kChunkTokens = 16;

void Replace(int& fd, int with) {
  if (fd >= 0) close(fd);
  fd = with;
}

template <typename Request>
Request ForSegment(wire::ResidencyWord word) {
  Request request;
  request.pool = word.pool();
  request.segment = word.segment();
  request.incarnation = word.incarnation();
  return request;
}

absl::Span<const std::byte> AsBytes(const std::string& text) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

}  // namespace

RawChannel::~RawChannel() {
  Disconnect();
  for (int* fd : {&index_fd_, &page_fd_, &segment_fd_}) Replace(*fd, -1);
}

void RawChannel::Disconnect() { Replace(fd_, -1); }

bool RawChannel::Connect(const std::string& path) {
  Replace(fd_, socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

bool RawChannel::Send(const void* packet, size_t bytes, absl::Span<const int> fds) const {
  iovec part{.iov_base = const_cast<void*>(packet), .iov_len = bytes};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(256 * sizeof(int))] = {};
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size() * sizeof(int));
  }
  return sendmsg(fd_, &header, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes);
}

ssize_t RawChannel::Receive(void* packet, size_t bytes, int* fds, size_t& fd_count) const {
  fd_count = 0;
  pollfd waits{.fd = fd_, .events = POLLIN, .revents = 0};
  if (poll(&waits, 1, kPatienceMs) != 1) return -1;
  iovec part{.iov_base = packet, .iov_len = bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(kFdsMax * sizeof(int))];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t received = recvmsg(fd_, &header, MSG_CMSG_CLOEXEC);
  if (received <= 0) return 0;  // a reset is an end as well
  for (cmsghdr* one = CMSG_FIRSTHDR(&header); one != nullptr; one = CMSG_NXTHDR(&header, one)) {
    if (one->cmsg_type != SCM_RIGHTS) continue;
    fd_count = (one->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    std::memcpy(fds, CMSG_DATA(one), fd_count * sizeof(int));
  }
  return received;
}

uint32_t RawChannel::Hello(uint64_t session, uint64_t daemon_epoch) {
  wire::HelloRequest request;
  request.session_id = session;
  request.daemon_epoch = daemon_epoch;
  return Hello(request);
}

uint32_t RawChannel::Hello(const wire::HelloRequest& request) {
  if (!Send(&request, sizeof request)) return kClosed;
  wire::HelloReply reply;
  int fds[kFdsMax];
  size_t count = 0;
  if (Receive(&reply, sizeof reply, fds, count) != sizeof reply) return kClosed;
  std::memcpy(text, reply.text, sizeof text);
  if (count == 2) {
    Replace(index_fd_, fds[0]);
    Replace(page_fd_, fds[1]);
    index_bytes_ = reply.index_bytes;
  }
  return reply.code == 0 && count != 2 ? kClosed : reply.code;
}

uint32_t RawChannel::Segment(wire::ResidencyWord word, wire::SegmentAccess access) {
  auto request = ForSegment<wire::SegmentRequest>(word);
  request.access = access;
  if (!Send(&request, sizeof request)) return kClosed;
  int fds[kFdsMax];
  size_t count = 0;
  if (Receive(&segment_, sizeof segment_, fds, count) != sizeof segment_) return kClosed;
  std::memcpy(text, segment_.text, sizeof text);
  if (count == 1) Replace(segment_fd_, fds[0]);
  return segment_.code == 0 && count != 1 ? kClosed : segment_.code;
}

uint32_t RawChannel::Mapped(wire::ResidencyWord word) {
  const auto request = ForSegment<wire::SegmentMapped>(word);
  if (!Send(&request, sizeof request)) return kClosed;
  wire::SegmentSealed reply;
  int fds[kFdsMax];
  size_t count = 0;
  if (Receive(&reply, sizeof reply, fds, count) != sizeof reply) return kClosed;
  return reply.code;
}

std::byte* MapWhole(int fd, uint64_t bytes, bool writable) {
  void* mapped =
      mmap(nullptr, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  return mapped == MAP_FAILED ? nullptr : static_cast<std::byte*>(mapped);
}

template <typename Method, typename Request, typename Reply>
grpc::Status RawSession::Call(Method method, const Request& request, Reply& reply) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kSoon));
  return (kv_.get()->*method)(&context, request, &reply);
}

std::unique_ptr<RawSession> RawSession::Attach(const std::string& socket, pid_t pid) {
  auto session = std::unique_ptr<RawSession>(new RawSession);
  // A connection of its own: the kernel tells the daemon who made it.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  session->kv_ = v1::KvCache::NewStub(
      grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments));
  v1::AttachRequest attach;
  attach.mutable_version()->set_major(wire::kProtocolMajor);
  attach.mutable_version()->set_minor(wire::kProtocolMinor);
  attach.set_pid(pid);
  v1::AttachReply attached;
  grpc::Status status = session->Call(&v1::KvCache::Stub::Attach, attach, attached);
  EXPECT_TRUE(status.ok()) << status.error_message();
  session->id_ = attached.session_id();
  session->daemon_epoch_ = attached.daemon_epoch();
  session->attach_socket_ = attached.shared_memory_socket();
  v1::RegisterModelRequest model;
  model.set_session_id(session->id_);
  model.mutable_model()->set_name("raw");
  model.mutable_model()->set_chunk_tokens(kChunkTokens);
  v1::Plane* plane = model.mutable_model()->add_planes();
  plane->set_name("kv");
  plane->set_kind(v1::PLANE_KIND_ATTENTION);
  plane->set_rank(-1);
  plane->set_bytes_per_chunk(kBlockBytes);
  plane->set_required(true);
  v1::RegisterModelReply registered;
  status = session->Call(&v1::KvCache::Stub::RegisterModel, model, registered);
  EXPECT_TRUE(status.ok()) << status.error_message();
  session->model_ = registered.model_id();
  return status.ok() ? std::move(session) : nullptr;
}

grpc::Status RawSession::Reserve(uint32_t chunks, bool in_place, v1::ReserveReply& reply) {
  v1::ReserveRequest request;
  request.set_session_id(id_);
  request.set_model_id(model_);
  request.set_chunk_count(chunks);
  request.set_in_place(in_place);
  return Call(&v1::KvCache::Stub::Reserve, request, reply);
}

grpc::Status RawSession::Store(uint64_t reservation, uint32_t chunk, const std::string& bytes) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kSoon));
  v1::StoreReply stored;
  const auto writer = kv_->Store(&context, &stored);
  v1::StoreRequest piece;
  piece.set_session_id(id_);
  piece.set_reservation_id(reservation);
  piece.set_chunk(chunk);
  piece.set_data(bytes);
  writer->Write(piece);
  writer->WritesDone();
  return writer->Finish();
}

v1::CommitReply::Chunk RawSession::Commit(uint64_t reservation, uint32_t chunk,
                                          const std::string& name, const std::string& bytes) {
  v1::CommitRequest request;
  request.set_session_id(id_);
  request.set_reservation_id(reservation);
  v1::CommitChunk* one = request.add_chunks();
  one->set_chunk(chunk);
  one->mutable_name()->mutable_opaque()->set_engine_key(name);
  one->set_token_count(kChunkTokens);
  one->add_checksums(wire::BlockChecksum(AsBytes(bytes)));
  v1::CommitReply reply;
  const grpc::Status status = Call(&v1::KvCache::Stub::Commit, request, reply);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return reply.chunks_size() == 1 ? reply.chunks(0) : v1::CommitReply::Chunk();
}

bool RawSession::StoreChunk(const std::string& name, const std::string& bytes) {
  v1::ReserveReply reserved;
  if (!Reserve(1, false, reserved).ok()) return false;
  if (!Store(reserved.reservation_id(), 0, bytes).ok()) return false;
  return Commit(reserved.reservation_id(), 0, name, bytes).outcome() == v1::CommitReply::COMMITTED;
}

grpc::Status RawSession::Lease(const std::string& name, v1::LookupReply& reply) {
  v1::LookupRequest request;
  request.set_session_id(id_);
  request.set_model_id(model_);
  request.add_names()->mutable_opaque()->set_engine_key(name);
  request.set_lease(true);
  return Call(&v1::KvCache::Stub::Lookup, request, reply);
}

v1::LookupReply RawSession::Lookup(const std::string& name) {
  v1::LookupReply reply;
  const grpc::Status status = Lease(name, reply);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return reply;
}

int32_t RawSession::Fetch(uint64_t lease, std::string& bytes) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kSoon));
  v1::FetchRequest request;
  request.set_session_id(id_);
  request.set_lease_id(lease);
  request.add_planes(0);
  const auto reader = kv_->Fetch(&context, request);
  bytes.clear();
  v1::FetchReply reply;
  int32_t code = -1;
  while (reader->Read(&reply)) {
    bytes += reply.data();
    if (reply.last()) code = reply.code();
  }
  const grpc::Status status = reader->Finish();
  return status.ok() ? code : static_cast<int32_t>(status.error_code());
}

void RawSession::Release(uint64_t lease) {
  v1::ReleaseRequest request;
  request.set_session_id(id_);
  request.add_lease_ids(lease);
  v1::ReleaseReply reply;
  EXPECT_TRUE(Call(&v1::KvCache::Stub::Release, request, reply).ok());
}

uint32_t RawSession::Forget(const std::string& name) {
  // Forget takes keys; a commit that finds the chunk there already tells its key.
  v1::ReserveReply reserved;
  if (!Reserve(1, false, reserved).ok()) return 0;
  const std::string bytes = RawBlock(0);
  if (!Store(reserved.reservation_id(), 0, bytes).ok()) return 0;
  v1::ForgetRequest request;
  request.set_session_id(id_);
  request.set_model_id(model_);
  request.set_keys(Commit(reserved.reservation_id(), 0, name, bytes).key());
  v1::ForgetReply reply;
  EXPECT_TRUE(Call(&v1::KvCache::Stub::Forget, request, reply).ok());
  return reply.forgotten_chunks();
}

grpc::Status RawSession::CheckBlock(uint64_t row, wire::ResidencyWord word, bool& dropped) {
  v1::CheckBlockRequest request;
  request.set_session_id(id_);
  request.set_row(row);
  request.set_word(word.bits());
  v1::CheckBlockReply reply;
  const grpc::Status status = Call(&v1::KvCache::Stub::CheckBlock, request, reply);
  dropped = reply.dropped();
  return status;
}

void RawSession::Detach() {
  v1::DetachRequest request;
  request.set_session_id(id_);
  v1::DetachReply reply;
  EXPECT_TRUE(Call(&v1::KvCache::Stub::Detach, request, reply).ok());
}

std::string RawBlock(uint64_t seed) {
  std::string bytes(RawSession::kBlockBytes, '\0');
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<char>((i * 31 + seed * 17 + (i >> 8)) & 0xff);
  return bytes;
}

}  // namespace kvtier::test_support
