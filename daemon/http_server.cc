#include "daemon/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "tiering/base/check.h"

namespace kvtier {
namespace {

constexpr size_t kRequestBytesMax = 16 * 1024;
constexpr int kBacklog = 64;
// Out of descriptors: the connection stays in the backlog, and asking again at once would only
// spin.
constexpr std::chrono::milliseconds kExhaustedPause(50);

absl::string_view ReasonOf(int code) {
  switch (code) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 431:
      return "Request Header Fields Too Large";
    default:
      return "Service Unavailable";
  }
}

std::string Page(int code, absl::string_view body, absl::string_view type = "text/plain") {
  return absl::StrCat("HTTP/1.1 ", code, " ", ReasonOf(code), "\r\nContent-Type: ", type,
                      "\r\nContent-Length: ", body.size(), code == 405 ? "\r\nAllow: GET" : "",
                      "\r\nConnection: close\r\n\r\n", body);
}

// Of the head of a request; npos while it is not complete. A lone \n ends a line as well.
size_t HeadEnd(absl::string_view request) {
  return std::min(request.find("\r\n\r\n"), request.find("\n\n"));
}

bool WouldBlock() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Create(Options options) {
  auto http = std::unique_ptr<HttpServer>(new HttpServer(std::move(options)));
  const absl::Status listening = http->Listen();
  if (!listening.ok()) return listening;
  http->thread_ = std::thread([raw = http.get()] { raw->Run(); });
  return http;
}

absl::Status HttpServer::Listen() {
  const auto failed = [this] {
    const HttpAddress& address = options_.address;
    const bool v6 = absl::StrContains(address.host, ':');
    return absl::UnavailableError(absl::StrCat("cannot listen on listen.http ", v6 ? "[" : "",
                                               address.host, v6 ? "]:" : ":", address.port, ": ",
                                               std::strerror(errno)));
  };
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  const bool is_v4 = inet_pton(AF_INET, options_.address.host.c_str(), &v4.sin_addr) == 1;
  v4.sin_family = AF_INET;
  v6.sin6_family = AF_INET6;
  v4.sin_port = v6.sin6_port = htons(static_cast<uint16_t>(options_.address.port));
  errno = EINVAL;
  if (!is_v4 && inet_pton(AF_INET6, options_.address.host.c_str(), &v6.sin6_addr) != 1)
    return failed();
  auto* const address = is_v4 ? reinterpret_cast<sockaddr*>(&v4) : reinterpret_cast<sockaddr*>(&v6);
  socklen_t length = is_v4 ? sizeof v4 : sizeof v6;

  stop_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  listen_fd_ = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  // Not SO_REUSEPORT: a second daemon on the same port is an error.
  const int on = 1;
  if (stop_fd_ < 0 || listen_fd_ < 0 ||
      setsockopt(listen_fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(listen_fd_, address, length) != 0 || listen(listen_fd_, kBacklog) != 0 ||
      getsockname(listen_fd_, address, &length) != 0) {
    return failed();
  }
  port_ = ntohs(is_v4 ? v4.sin_port : v6.sin6_port);
  return absl::OkStatus();
}

HttpServer::~HttpServer() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    KVTIER_CHECK(write(stop_fd_, &one, sizeof one) == sizeof one);
    thread_.join();
  }
  for (const Connection& connection : connections_) close(connection.fd);
  if (listen_fd_ >= 0) close(listen_fd_);
  if (stop_fd_ >= 0) close(stop_fd_);
}

void HttpServer::Run() {
  std::vector<pollfd> waits;
  while (true) {
    Clock::time_point until = Expire();
    const bool accepts = Clock::now() >= accept_after_;
    if (!accepts) until = std::min(until, accept_after_);
    waits.assign({{.fd = stop_fd_, .events = POLLIN, .revents = 0},
                  {.fd = accepts ? listen_fd_ : -1, .events = POLLIN, .revents = 0}});
    for (const Connection& connection : connections_) {
      const bool writes = !connection.answer.empty() && !connection.lingers;
      waits.push_back(
          {.fd = connection.fd, .events = writes ? short{POLLOUT} : short{POLLIN}, .revents = 0});
    }
    int timeout_ms = -1;
    if (until != Clock::time_point::max()) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
      timeout_ms = static_cast<int>(std::max<int64_t>(left.count(), 0));
    }
    if (poll(waits.data(), waits.size(), timeout_ms) < 0) {
      KVTIER_CHECK(errno == EINTR);
      continue;
    }
    if (waits[0].revents != 0) return;
    size_t wait = 2;
    for (auto connection = connections_.begin(); connection != connections_.end(); ++wait) {
      const short events = waits[wait].revents;
      if (events == 0 || Serve(*connection, events)) {
        ++connection;
      } else {
        close(connection->fd);
        connection = connections_.erase(connection);
      }
    }
    if (waits[1].revents != 0) Accept();
  }
}

void HttpServer::Accept() {
  const int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
      accept_after_ = Clock::now() + kExhaustedPause;
    return;
  }
  if (connections_.size() >= options_.connections_max) {
    close(connections_.front().fd);
    connections_.pop_front();
  }
  Connection& connection = connections_.emplace_back();
  connection.fd = fd;
  connection.deadline = Clock::now() + options_.deadline;
  // Whoever asks at once is answered before the next one can push him out.
  if (Serve(connection, POLLIN)) return;
  close(fd);
  connections_.pop_back();
}

bool HttpServer::Serve(Connection& connection, short events) {
  if (connection.answer.empty() || connection.lingers) {
    if (!Read(connection)) return false;
  } else if ((events & POLLOUT) == 0) {
    return false;  // hung up
  }
  return connection.answer.empty() || connection.lingers || Write(connection);
}

bool HttpServer::Read(Connection& connection) {
  char bytes[4096];
  const ssize_t got = recv(connection.fd, bytes, sizeof bytes, 0);
  if (got < 0) return WouldBlock();
  if (got == 0) return false;
  if (connection.lingers) return true;
  const size_t room = kRequestBytesMax - connection.request.size();
  connection.request.append(bytes, std::min(room, static_cast<size_t>(got)));
  const size_t end = HeadEnd(connection.request);
  if (end != std::string::npos) {
    connection.answer = Answer(connection.request.substr(0, end));
  } else if (connection.request.size() == kRequestBytesMax) {
    connection.answer =
        Page(431, absl::StrCat("a request has at most ", kRequestBytesMax, " bytes\n"));
  }
  return true;
}

bool HttpServer::Write(Connection& connection) {
  const ssize_t sent = send(connection.fd, connection.answer.data() + connection.sent,
                            connection.answer.size() - connection.sent, MSG_NOSIGNAL);
  if (sent < 0) return WouldBlock();
  connection.sent += static_cast<size_t>(sent);
  if (connection.sent < connection.answer.size()) return true;
  // Closing with bytes unread would reset the connection, and the answer with it: reads on until
  // the peer closes, or its time is over.
  connection.lingers = true;
  std::string().swap(connection.request);
  return shutdown(connection.fd, SHUT_WR) == 0;
}

std::string HttpServer::Answer(const std::string& head) const {
  absl::string_view line = absl::string_view(head).substr(0, head.find('\n'));
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  if (words.size() != 3 || !absl::StartsWith(words[2], "HTTP/1.") || words[0].empty() ||
      words[1].empty()) {
    return Page(400, "not a request of HTTP/1.x\n");
  }
  if (words[0] != "GET") return Page(405, "only GET is answered\n");
  const absl::string_view path = words[1].substr(0, words[1].find('?'));
  if (path == "/metrics") {
    return Page(200, options_.metrics(), "text/plain; version=0.0.4; charset=utf-8");
  }
  if (path == "/healthz") return Page(200, "ok\n");
  if (path == "/readyz") {
    const std::string reason = options_.not_ready();
    return reason.empty() ? Page(200, "ready\n") : Page(503, reason + "\n");
  }
  return Page(404, "there are /metrics, /healthz and /readyz\n");
}

HttpServer::Clock::time_point HttpServer::Expire() {
  const Clock::time_point now = Clock::now();
  // Oldest first, and all have the same time.
  while (!connections_.empty() && connections_.front().deadline <= now) {
    Connection& oldest = connections_.front();
    if (oldest.answer.empty() && !oldest.request.empty()) {
      // As far as it goes: there is no time left to wait for room.
      const std::string answer = Page(408, "the request did not come in time\n");
      static_cast<void>(send(oldest.fd, answer.data(), answer.size(), MSG_NOSIGNAL));
    }
    close(oldest.fd);
    connections_.pop_front();
  }
  return connections_.empty() ? Clock::time_point::max() : connections_.front().deadline;
}

}  // namespace kvtier
