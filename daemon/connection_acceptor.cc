#include "daemon/connection_acceptor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/log.h"
#include "tiering/base/check.h"

namespace kvtier {
namespace {

// Out of descriptors: the connection stays in the backlog, and asking again at once would only
// spin.
constexpr int kExhaustedPauseMs = 50;

// What HTTP/2 has for a server that takes no more: settings, then GOAWAY with a reason that clients
// show (ENHANCE_YOUR_CALM). Sent before the connection is handed to gRPC, so into an empty socket.
void SayGoAway(int fd, absl::string_view reason) {
  constexpr char kSettings[] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
  const size_t length = 8 + reason.size();
  const char head[] = {0,
                       static_cast<char>(length >> 8),
                       static_cast<char>(length & 0xff),
                       7,
                       0,
                       0,
                       0,
                       0,
                       0,
                       0,
                       0,
                       0,
                       0,  // no stream was served
                       0,
                       0,
                       0,
                       11};  // the error's code
  const std::string frames = absl::StrCat(absl::string_view(kSettings, sizeof kSettings),
                                          absl::string_view(head, sizeof head), reason);
  // A client that does not get it sees the connection closed, as it would without.
  static_cast<void>(send(fd, frames.data(), frames.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
}

}  // namespace

TenantByUid::TenantByUid(const v1::Config& config) {
  for (int i = 0; i < config.tenants_size(); ++i) {
    names_.push_back(config.tenants(i).name());
    for (const uint32_t uid : config.tenants(i).uids()) {
      const bool added = tenants_.try_emplace(uid, TenantId(static_cast<uint16_t>(i))).second;
      KVTIER_CHECK(added);
    }
  }
}

std::optional<TenantId> TenantByUid::Find(uid_t uid) const {
  const auto found = tenants_.find(uid);
  if (found == tenants_.end()) return std::nullopt;
  return found->second;
}

absl::StatusOr<std::unique_ptr<ConnectionAcceptor>> ConnectionAcceptor::Create(Options options) {
  auto acceptor = std::unique_ptr<ConnectionAcceptor>(new ConnectionAcceptor(std::move(options)));
  acceptor->stop_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (acceptor->stop_fd_ < 0)
    return absl::UnavailableError(absl::StrCat("eventfd: ", std::strerror(errno)));
  acceptor->thread_ = std::thread([raw = acceptor.get()] { raw->Run(); });
  return acceptor;
}

ConnectionAcceptor::ConnectionAcceptor(Options options) : options_(std::move(options)) {
  KVTIER_CHECK(options_.listener != nullptr && options_.watcher != nullptr &&
               options_.hand_over != nullptr);
}

ConnectionAcceptor::~ConnectionAcceptor() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    KVTIER_CHECK(write(stop_fd_, &one, sizeof one) == sizeof one);
    thread_.join();
  }
  if (stop_fd_ >= 0) close(stop_fd_);
}

void ConnectionAcceptor::Run() {
  pollfd waits[2] = {{.fd = stop_fd_, .events = POLLIN, .revents = 0},
                     {.fd = options_.listener->fd(), .events = POLLIN, .revents = 0}};
  while (true) {
    if (poll(waits, 2, -1) < 0) {
      KVTIER_CHECK(errno == EINTR);
      continue;
    }
    if (waits[0].revents != 0) return;
    const int fd = accept4(options_.listener->fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      Accept(fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      if (MayLog()) log::Warn("cannot accept connections", {{"reason", std::strerror(errno)}});
      poll(waits, 1, kExhaustedPauseMs);
    }
  }
}

void ConnectionAcceptor::Accept(int fd) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    close(fd);
    return;
  }
  const std::optional<TenantId> tenant = options_.tenants.Find(peer.uid);
  if (!tenant) {
    ++refused_uid_;
    if (MayLog()) {
      log::Warn("connection refused: the user belongs to no tenant",
                {{"uid", peer.uid}, {"pid", peer.pid}, {"refused", refused_uid_.load()}});
    }
    close(fd);
    return;
  }
  // Watched before it is handed over: a session must find its process.
  const absl::Status added = options_.watcher->AddConnection(*tenant, peer.pid, fd);
  if (!added.ok()) {
    ++refused_limit_;
    if (MayLog()) {
      log::Warn("connection refused", {{"tenant", options_.tenants.Name(*tenant)},
                                       {"uid", peer.uid},
                                       {"pid", peer.pid},
                                       {"reason", added.message()}});
    }
    SayGoAway(fd, added.message());
    close(fd);
    return;
  }
  ++accepted_;
  log::Debug("connection accepted",
             {{"tenant", options_.tenants.Name(*tenant)}, {"uid", peer.uid}, {"pid", peer.pid}});
  options_.hand_over(*tenant, fd);
}

bool ConnectionAcceptor::MayLog() {
  const absl::Time now = absl::Now();
  if (now - logged_ < absl::Seconds(1)) return false;
  logged_ = now;
  return true;
}

}  // namespace kvtier
