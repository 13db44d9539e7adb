// The least of an HTTP client: sends what a test wants to have sent, and reads to the end.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <string_view>

namespace kvtier::test_support {

// A connection to a port of 127.0.0.1; -1 when refused. The caller closes it.
inline int ConnectPort(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

// Sends all of it; false when the other end does not take it.
inline bool SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

// All that comes until the other end closes, or for as long as nothing comes for 20 s.
inline std::string ReadToEnd(int fd) {
  std::string text;
  char bytes[4096];
  pollfd waits{.fd = fd, .events = POLLIN, .revents = 0};
  while (poll(&waits, 1, 20'000) == 1) {
    const ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    if (got <= 0) break;
    text.append(bytes, static_cast<size_t>(got));
  }
  return text;
}

// The whole answer to a request, status line and headers included; empty without one.
inline std::string HttpExchange(int port, std::string_view request) {
  const int fd = ConnectPort(port);
  if (fd < 0) return "";
  SendAll(fd, request);
  std::string answer = ReadToEnd(fd);
  close(fd);
  return answer;
}

inline std::string HttpGet(int port, const std::string& path) {
  return HttpExchange(port, "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

}  // namespace kvtier::test_support
