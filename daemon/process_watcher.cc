#include "daemon/process_watcher.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tiering/base/check.h"

namespace kvtier {
namespace {

constexpr uint64_t kStopToken = 0;
// Tokens of pidfds are odd, of connections even.
constexpr bool IsProcess(uint64_t token) { return token % 2 == 1; }

}  // namespace

absl::StatusOr<std::unique_ptr<ProcessWatcher>> ProcessWatcher::Create(Options options) {
  auto watcher = std::unique_ptr<ProcessWatcher>(new ProcessWatcher(std::move(options)));
  watcher->epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  watcher->stop_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (watcher->epoll_fd_ < 0 || watcher->stop_fd_ < 0) {
    return absl::UnavailableError(absl::StrCat("epoll or eventfd: ", std::strerror(errno)));
  }
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kStopToken}};
  if (epoll_ctl(watcher->epoll_fd_, EPOLL_CTL_ADD, watcher->stop_fd_, &event) != 0) {
    return absl::UnavailableError(absl::StrCat("epoll_ctl: ", std::strerror(errno)));
  }
  watcher->thread_ = std::thread([raw = watcher.get()] { raw->Run(); });
  return watcher;
}

ProcessWatcher::ProcessWatcher(Options options) : options_(std::move(options)) {}

ProcessWatcher::~ProcessWatcher() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    KVTIER_CHECK(write(stop_fd_, &one, sizeof one) == sizeof one);
    thread_.join();
  }
  for (const auto& entry : connections_) close(entry.second.fd);
  for (const auto& entry : processes_) {
    if (entry.second.pidfd >= 0) close(entry.second.pidfd);
  }
  if (stop_fd_ >= 0) close(stop_fd_);
  if (epoll_fd_ >= 0) close(epoll_fd_);
}

absl::Status ProcessWatcher::AddConnection(TenantId tenant, pid_t pid, int fd) {
  const MutexLock lock(mutex_);
  TenantCounts& counts = counts_[tenant.value()];
  if (counts.connections >= ConnectionsMax(tenant)) return LimitError(tenant);
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0)
    return absl::ResourceExhaustedError(absl::StrCat("no descriptor left: ", std::strerror(errno)));
  const uint64_t token = 2 * next_token_++;
  // Edge-triggered, and without EPOLLIN: the bytes are gRPC's to read.
  epoll_event event{.events = EPOLLRDHUP | EPOLLET, .data = {.u64 = token}};
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, copy, &event) != 0) {
    close(copy);
    return absl::ResourceExhaustedError(absl::StrCat("epoll_ctl: ", std::strerror(errno)));
  }
  const ProcessKey key(tenant.value(), pid);
  Connection& connection = connections_[token];
  connection = {copy, key, 0};
  ++counts.connections;
  const bool known = processes_.contains(key);
  if (pid <= 0 || (!known && counts.processes >= ConnectionsMax(tenant))) return absl::OkStatus();

  if (!known) ++counts.processes;
  Process& process = processes_[key];
  ++process.connections;
  unconnected_.erase(key);
  if (process.token == 0) process.token = 2 * next_token_++ + 1;
  connection.process_token = process.token;
  if (process.pidfd >= 0) return absl::OkStatus();
  // A process that cannot be watched is no error: its sessions end by timeout.
  process.pidfd = OpenPeerProcess(fd, pid, options_.peer_lookup).Release();
  epoll_event ended{.events = EPOLLIN, .data = {.u64 = process.token}};
  if (process.pidfd >= 0 && epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, process.pidfd, &ended) != 0) {
    close(process.pidfd);
    process.pidfd = -1;
  }
  if (process.pidfd >= 0) pidfds_[process.token] = key;
  return absl::OkStatus();
}

bool ProcessWatcher::BindSession(TenantId tenant, int64_t pid, SessionId session) {
  const MutexLock lock(mutex_);
  if (pid <= 0 || pid > INT32_MAX) return false;
  const auto found = processes_.find(ProcessKey(tenant.value(), static_cast<pid_t>(pid)));
  if (found == processes_.end() || found->second.pidfd < 0) return false;
  std::deque<SessionId>& sessions = found->second.sessions;
  if (sessions.size() >= options_.sessions_max) sessions.pop_front();
  sessions.push_back(session);
  return true;
}

void ProcessWatcher::UnbindSession(TenantId tenant, SessionId session) {
  const MutexLock lock(mutex_);
  const ProcessKey first(tenant.value(), 0);
  for (auto process = processes_.lower_bound(first);
       process != processes_.end() && process->first.first == tenant.value(); ++process) {
    std::deque<SessionId>& sessions = process->second.sessions;
    const auto found = std::find(sessions.begin(), sessions.end(), session);
    if (found == sessions.end()) continue;
    sessions.erase(found);
    DropIfUnused(process);
    return;
  }
}

void ProcessWatcher::DropIfUnused(std::map<ProcessKey, Process>::iterator process) {
  if (process->second.connections > 0) return;
  if (process->second.sessions.empty()) {
    Forget(process);
  } else {
    unconnected_.insert(process->first);
  }
}

void ProcessWatcher::Forget(std::map<ProcessKey, Process>::iterator process) {
  if (process->second.pidfd >= 0) close(process->second.pidfd);
  pidfds_.erase(process->second.token);
  unconnected_.erase(process->first);
  --counts_[process->first.first].processes;
  processes_.erase(process);
}

std::optional<pid_t> ProcessWatcher::ProcessOf(TenantId tenant, SessionId session) const {
  const MutexLock lock(mutex_);
  for (auto process = processes_.lower_bound(ProcessKey(tenant.value(), 0));
       process != processes_.end() && process->first.first == tenant.value(); ++process) {
    const std::deque<SessionId>& sessions = process->second.sessions;
    if (std::find(sessions.begin(), sessions.end(), session) != sessions.end())
      return process->first.second;
  }
  return std::nullopt;
}

uint32_t ProcessWatcher::ConnectionsMax(TenantId tenant) const {
  const uint32_t share = std::max(1u, options_.connections_max / options_.tenants);
  const bool more =
      options_.tenants > 1 &&
      std::find(options_.admins.begin(), options_.admins.end(), tenant) != options_.admins.end();
  return more ? share + kAdminConnections : share;
}

absl::Status ProcessWatcher::LimitError(TenantId tenant) const {
  const uint32_t limit = ConnectionsMax(tenant);
  return absl::ResourceExhaustedError(absl::StrCat(
      "the tenant has ", limit, " connections, which is its limit: limits.connections_max is ",
      options_.connections_max,
      options_.tenants > 1 ? absl::StrCat(", shared by ", options_.tenants, " tenants") : ""));
}

uint32_t ProcessWatcher::connections() const {
  const MutexLock lock(mutex_);
  return static_cast<uint32_t>(connections_.size());
}

uint32_t ProcessWatcher::processes() const {
  const MutexLock lock(mutex_);
  return static_cast<uint32_t>(processes_.size());
}

void ProcessWatcher::OnHangUp(uint64_t token) {
  const MutexLock lock(mutex_);
  const auto found = connections_.find(token);
  if (found == connections_.end()) return;
  const Connection connection = found->second;
  connections_.erase(found);
  --counts_[connection.process.first].connections;
  // The server may hold the same connection open for a moment, so closing alone would leave it
  // registered.
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, connection.fd, nullptr);
  close(connection.fd);
  const auto process = processes_.find(connection.process);
  if (process == processes_.end() || process->second.token != connection.process_token) return;
  --process->second.connections;
  DropIfUnused(process);
}

void ProcessWatcher::OnProcessEnd(uint64_t token) {
  std::vector<SessionId> sessions;
  ProcessKey key;
  {
    const MutexLock lock(mutex_);
    const auto found = pidfds_.find(token);
    if (found == pidfds_.end()) return;
    key = found->second;
    const auto process = processes_.find(key);
    sessions.assign(process->second.sessions.begin(), process->second.sessions.end());
    // Connections that it left to others are counted on by themselves; the pid may now mean another
    // process.
    Forget(process);
  }
  if (!sessions.empty()) options_.on_process_end(TenantId(key.first), sessions);
}

void ProcessWatcher::Prune() {
  std::vector<std::pair<TenantId, SessionId>> ended;
  {
    const MutexLock lock(mutex_);
    for (const ProcessKey& key : unconnected_) {
      for (const SessionId session : processes_.at(key).sessions)
        ended.emplace_back(key.first, session);
    }
  }
  // The engine is asked without the lock, as its owner may be about to bind a session.
  ended.erase(std::remove_if(ended.begin(), ended.end(),
                             [this](const auto& session) {
                               return options_.session_known(session.first, session.second);
                             }),
              ended.end());
  for (const auto& [tenant, session] : ended) UnbindSession(tenant, session);
}

int ProcessWatcher::WaitMs() {
  if (options_.session_known == nullptr) return -1;
  {
    const MutexLock lock(mutex_);
    if (unconnected_.empty()) return -1;
  }
  const auto now = std::chrono::steady_clock::now();
  if (now >= prune_at_) {
    prune_at_ = now + options_.prune_interval;
    Prune();
  }
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(prune_at_ - now).count());
}

void ProcessWatcher::Run() {
  std::vector<epoll_event> events(64);
  while (true) {
    const int count =
        epoll_wait(epoll_fd_, events.data(), static_cast<int>(events.size()), WaitMs());
    KVTIER_CHECK(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; ++i) {
      const uint64_t token = events[static_cast<size_t>(i)].data.u64;
      if (token == kStopToken) return;
      if (IsProcess(token)) {
        OnProcessEnd(token);
      } else {
        OnHangUp(token);
      }
    }
  }
}

}  // namespace kvtier
