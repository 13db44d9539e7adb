#include "daemon/attach_server.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/log.h"
#include "daemon/peer_process.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Even tokens are sockets, odd ones processes, of the channel token / 2.
constexpr uint64_t kStopToken = 0;
constexpr uint64_t kListenToken = 1;
// Out of descriptors: the connection stays in the backlog, and asking again at once would only
// spin.
constexpr int kExhaustedPauseMs = 50;

}  // namespace

std::string AttachSocketOf(const v1::Config& config) {
  return config.listen().socket() + wire::kAttachSocketSuffix;
}

AttachServer::AttachServer(Options options)
    : options_(std::move(options)), channels_of_(options_.memory.indexes.size()) {
  KVTIER_CHECK(options_.listener != nullptr && options_.memory.host != nullptr);
}

absl::StatusOr<std::unique_ptr<AttachServer>> AttachServer::Create(Options options) {
  auto server = std::unique_ptr<AttachServer>(new AttachServer(std::move(options)));
  KVTIER_RETURN_IF_ERROR(server->Start());
  return server;
}

absl::Status AttachServer::Start() {
  // Where there is no watch a page that a client keeps counts no longer than the client.
  absl::Status watched = CheckHolderWatch(false);
  absl::StatusOr<HolderWatch> pages = HolderWatch::Create();
  watched.Update(pages.status());
  if (watched.ok()) {
    pages_ = *std::move(pages);
    options_.memory.pages = &*pages_;
  } else {
    log::Warn("nobody knows what clients keep of their pages", {{"reason", watched.message()}});
  }
  epoll_ = OwnedFd(epoll_create1(EPOLL_CLOEXEC));
  stop_ = OwnedFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_.valid() || !stop_.valid() || !Watch(stop_.get(), kStopToken) ||
      !Watch(options_.listener->fd(), kListenToken)) {
    return absl::UnavailableError(absl::StrCat("epoll or eventfd: ", std::strerror(errno)));
  }
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

AttachServer::~AttachServer() { Stop(); }

void AttachServer::Stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  KVTIER_CHECK(write(stop_.get(), &one, sizeof one) == sizeof one);
  thread_.join();
  for (auto& entry : channels_) entry.second->Close();
  options_.listener.reset();
}

bool AttachServer::Watch(int fd, uint64_t token) {
  epoll_event event{.events = EPOLLIN, .data = {.u64 = token}};
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void AttachServer::Run() {
  std::array<epoll_event, 64> events;
  while (true) {
    const int count =
        epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), WaitMs());
    KVTIER_CHECK(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; ++i) {
      const uint64_t token = events[static_cast<size_t>(i)].data.u64;
      if (token == kStopToken) return;
      if (token == kListenToken) {
        Accept();
        continue;
      }
      // An event of a channel that ended a moment ago finds nothing.
      const auto found = channels_.find(token / 2);
      if (found == channels_.end()) continue;
      if (token % 2 == 0) {
        Serve(token / 2);
      } else {
        // Readable for ever.
        epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second->process(), nullptr);
        found->second->ProcessEnded();
      }
      EndIfGone(token / 2);
    }
    WorkOn();
    CloseSilent();
  }
}

void AttachServer::Accept() {
  OwnedFd socket(accept4(options_.listener->fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid()) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      if (MayLog()) log::Warn("cannot accept connections", {{"reason", std::strerror(errno)}});
      pollfd stop{.fd = stop_.get(), .events = POLLIN, .revents = 0};
      poll(&stop, 1, kExhaustedPauseMs);
    }
    return;
  }
  ucred peer{};
  socklen_t length = sizeof peer;
  if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return;
  ForgetEndedPages();
  const std::optional<TenantId> tenant = options_.tenants.Find(peer.uid);
  if (!tenant || channels_of_[tenant->value()] >= options_.channels_max) {
    ++refused_;
    if (MayLog()) {
      log::Warn("shared memory refused", {{"uid", peer.uid},
                                          {"pid", peer.pid},
                                          {"reason", tenant ? "the tenant has its share of clients"
                                                            : "the user belongs to no tenant"}});
    }
    return;
  }
  OwnedFd process = OpenPeerProcess(socket.get(), peer.pid);
  auto channel = std::make_unique<AttachChannel>(
      &options_.memory, std::move(socket),
      AttachChannel::Peer{.tenant = *tenant, .pid = peer.pid, .process = std::move(process)});
  const uint64_t id = next_id_++;
  if (!Watch(channel->socket(), 2 * id) ||
      (channel->process() >= 0 && !Watch(channel->process(), 2 * id + 1))) {
    return;  // out of memory for it: closed, and whatever was registered with it
  }
  ++channels_of_[tenant->value()];
  channels_.emplace(id, std::move(channel));
  silent_.emplace(id, SteadyClock::now() + options_.hello_timeout);
}

void AttachServer::Serve(uint64_t id) {
  AttachChannel& channel = *channels_.at(id);
  if (channel.socket() < 0) return;
  const bool attached = channel.attached();
  absl::Status served = channel.Serve();
  if (served.ok() && channel.resumes()) served = Resume(id);
  if (channel.working()) working_.insert(id);
  if (channel.attached() && !attached) {
    ++attached_;
    silent_.erase(id);
  }
  if (!served.ok()) Refuse(channel, served);
}

absl::Status AttachServer::Resume(uint64_t id) {
  AttachChannel& asking = *channels_.at(id);
  const auto found = std::find_if(channels_.begin(), channels_.end(), [&](const auto& entry) {
    return entry.second->MayGoOnAs(asking);
  });
  if (found == channels_.end()) return asking.RefuseToResume();
  working_.erase(found->first);
  const int socket = asking.socket();
  epoll_event event{.events = EPOLLIN, .data = {.u64 = 2 * found->first}};
  const absl::Status gone_on = found->second->GoOnAs(asking);
  if (gone_on.ok() && epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, socket, &event) == 0) {
    return absl::OkStatus();
  }
  found->second->Close();
  return absl::OkStatus();
}

void AttachServer::WorkOn() {
  if (working_.empty()) return;
  auto next = working_.upper_bound(last_worked_);
  if (next == working_.end()) next = working_.begin();
  last_worked_ = *next;
  AttachChannel& channel = *channels_.at(last_worked_);
  if (channel.working()) {
    const absl::Status worked = channel.Work();
    if (!worked.ok()) Refuse(channel, worked);
  }
  if (!channel.working()) working_.erase(next);
  EndIfGone(last_worked_);
}

void AttachServer::Refuse(AttachChannel& channel, const absl::Status& why) {
  ++refused_;
  const std::string& name = options_.memory.tenants[channel.tenant().value()];
  log::TenantInfo(name, "shared memory refused",
                  {{"tenant", name}, {"pid", channel.pid()}, {"reason", why.message()}});
  channel.Close();
}

void AttachServer::EndIfGone(uint64_t id) {
  const auto found = channels_.find(id);
  if (!found->second->gone()) return;
  found->second->End();
  if (const std::optional<int> page = found->second->page_watch()) {
    kept_pages_.emplace(*page, found->second->tenant());
    ForgetEndedPages();
  } else {
    --channels_of_[found->second->tenant().value()];
  }
  silent_.erase(id);
  working_.erase(id);
  channels_.erase(found);
}

void AttachServer::ForgetEndedPages() {
  if (!pages_) return;
  for (const int ended : pages_->TakeEnded()) {
    const auto page = kept_pages_.find(ended);
    if (page == kept_pages_.end()) continue;  // it was given to nobody
    --channels_of_[page->second.value()];
    kept_pages_.erase(page);
  }
}

void AttachServer::CloseSilent() {
  const SteadyClock::time_point now = SteadyClock::now();
  while (!silent_.empty() && silent_.begin()->second <= now) {
    const uint64_t id = silent_.begin()->first;
    channels_.at(id)->Close();
    EndIfGone(id);
  }
}

int AttachServer::WaitMs() const {
  if (!working_.empty()) return 0;
  if (silent_.empty()) return -1;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(silent_.begin()->second - SteadyClock::now());
  return static_cast<int>(std::max<int64_t>(0, left.count()));
}

bool AttachServer::MayLog() {
  const absl::Time now = absl::Now();
  if (now - logged_ < absl::Seconds(1)) return false;
  logged_ = now;
  return true;
}

}  // namespace kvtier
