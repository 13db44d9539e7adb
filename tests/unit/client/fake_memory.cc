#include "tests/unit/client/fake_memory.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "tiering/base/check.h"

namespace kvtier::testing {
namespace {

constexpr uint64_t kSlotMask = 0x3fff;

ScopedFd NewMemory(uint64_t bytes) {
  ScopedFd fd(::memfd_create("kvtier-test", MFD_CLOEXEC));
  KVTIER_CHECK(fd.get() >= 0 && ::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
  return fd;
}

Mapping MapAll(const ScopedFd& fd, uint64_t bytes) {
  auto mapping = Mapping::Map(fd.get(), bytes, Mapping::Access::kWrite, /*populate=*/false);
  KVTIER_CHECK(mapping.ok());
  return *std::move(mapping);
}

}  // namespace

FakeMemory::FakeMemory() {
  const IndexLimits limits{.chunks_max = 1024, .blocks_max = 4096};
  const auto bytes = static_cast<uint64_t>(TenantShare::BytesFor(limits).count());
  index_fd_ = NewMemory(bytes);
  index_ = MapAll(index_fd_, bytes);
  auto share = TenantShare::Create({.memory = absl::MakeSpan(index_.data(), bytes),
                                    .limits = limits,
                                    .daemon_epoch = kEpoch,
                                    .hash_seed = 5});
  KVTIER_CHECK(share.ok());
  share_ = *std::move(share);
  page_fd_ = NewMemory(wire::kClientPageBytes);
  page_ = MapAll(page_fd_, wire::kClientPageBytes);
  page().magic = wire::kClientPageMagic;

  stop_ = ScopedFd(::eventfd(0, EFD_CLOEXEC));
  listener_ = ScopedFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket().c_str(), sizeof(address.sun_path) - 1);
  KVTIER_CHECK(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) ==
               0);
  KVTIER_CHECK(::listen(listener_.get(), 8) == 0);
  thread_ = std::thread([this] { Serve(); });
}

FakeMemory::~FakeMemory() {
  const uint64_t one = 1;
  KVTIER_CHECK(::write(stop_.get(), &one, sizeof(one)) == sizeof(one));
  thread_.join();
}

absl::Span<std::byte> FakeMemory::AddSegment(wire::ResidencyWord word, uint64_t slot_bytes) {
  Segment segment;
  segment.fd = NewMemory(kSegmentBytes);
  segment.mapping = MapAll(segment.fd, kSegmentBytes);
  segment.slot_bytes = slot_bytes;
  std::byte* const data = segment.mapping.data();
  const std::lock_guard<std::mutex> lock(mutex_);
  segments_[word.bits() & ~kSlotMask] = std::move(segment);
  return absl::MakeSpan(data, kSegmentBytes);
}

void FakeMemory::RemoveSegment(wire::ResidencyWord word) {
  const std::lock_guard<std::mutex> lock(mutex_);
  segments_.erase(word.bits() & ~kSlotMask);
}

absl::StatusOr<std::shared_ptr<TenantMemory>> FakeMemory::Attach(SectionPlaces& places) const {
  return TenantMemory::Attach({.socket = socket(),
                               .session_id = 1,
                               .daemon_epoch = kEpoch,
                               .timeout = absl::Milliseconds(500),
                               .verified_blocks_max = 1024,
                               .places = &places});
}

void FakeMemory::Serve() {
  std::vector<ScopedFd> clients;
  for (;;) {
    std::vector<pollfd> waits = {{stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const ScopedFd& client : clients) waits.push_back({client.get(), POLLIN, 0});
    KVTIER_CHECK(::poll(waits.data(), waits.size(), -1) > 0);
    if (waits[0].revents != 0) return;
    for (size_t i = 2; i < waits.size(); ++i) {
      if (waits[i].revents != 0) ServeClient(waits[i].fd);
    }
    if (waits[1].revents != 0) {
      clients.emplace_back(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }
  }
}

void FakeMemory::ServeClient(int fd) {
  char packet[256];
  const ssize_t got = ::recv(fd, packet, sizeof(packet), 0);
  if (got <= 0) {
    ::shutdown(fd, SHUT_RDWR);
    return;
  }
  // As the daemon does: no request before the last reply was taken.
  int queued = 0;
  if (::ioctl(fd, SIOCOUTQ, &queued) != 0 || queued != 0) {
    ::shutdown(fd, SHUT_RDWR);
    return;
  }
  wire::AttachType type;
  std::memcpy(&type, packet, sizeof(type));
  if (type == wire::AttachType::kGoodbye) {
    ++goodbyes_;
    return;
  }
  if (silent_.load()) return;
  if (garbled_.load()) return Send(fd, "no", 2, {});
  if (type == wire::AttachType::kHelloRequest) {
    wire::HelloReply reply;
    wire::HelloRequest request;
    std::memcpy(&request, packet, sizeof(request));
    if (request.resume != 0) {
      ++resumes_;
      return Send(fd, &reply, sizeof(reply), {});
    }
    reply.type = wire::AttachType::kHelloReply;
    if (other_version_.load()) ++reply.major;
    reply.index_bytes = index_.bytes();
    reply.client_page_bytes = page_.bytes();
    return Send(fd, &reply, sizeof(reply), {index_fd_.get(), page_fd_.get()});
  }
  if (type == wire::AttachType::kSegmentMapped) {
    if (swallow_mapped_.exchange(false)) return;
    wire::SegmentSealed reply;
    return Send(fd, &reply, sizeof(reply), {});
  }
  ++requests_;
  wire::SegmentRequest request;
  std::memcpy(&request, packet, sizeof(request));
  const wire::ResidencyWord word(request.pool << 28 | request.segment << 14, request.incarnation);
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = segments_.find(word.bits());
  wire::SegmentReply reply;
  if (found == segments_.end()) {
    reply.code = static_cast<uint32_t>(absl::StatusCode::kNotFound);
    return Send(fd, &reply, sizeof(reply), {});
  }
  reply.segment_bytes = kSegmentBytes;
  reply.slot_bytes = found->second.slot_bytes;
  std::strncpy(reply.text, "dram:0", sizeof(reply.text) - 1);
  Send(fd, &reply, sizeof(reply), {found->second.fd.get()});
}

void FakeMemory::Send(int fd, const void* packet, size_t bytes, absl::Span<const int> fds) {
  iovec data{const_cast<void*>(packet), bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  KVTIER_CHECK(::sendmsg(fd, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes));
}

}  // namespace kvtier::testing
