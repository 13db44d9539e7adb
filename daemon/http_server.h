// /metrics, /healthz and /readyz.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "daemon/config_check.h"

namespace kvtier {

// GET over HTTP/1.x, one request a connection, on one thread that waits for nobody: anyone on the
// machine may connect, so what a connection can take is bounded in bytes (16 KiB of request) and in
// time, and the number of connections is, too. Beyond it the oldest goes, so that those who keep
// theirs open cannot keep others out. Handlers are called by that thread alone.
class HttpServer {
 public:
  struct Options {
    HttpAddress address;  // port 0: any free one
    std::function<std::string()> metrics;
    // Empty: ready. Else the reason, which /readyz gives with 503.
    std::function<std::string()> not_ready;
    size_t connections_max = 32;
    // From accepting a connection to its end, whatever it does meanwhile.
    std::chrono::milliseconds deadline{5000};
  };
  // UNAVAILABLE when the address cannot be bound, naming it and the reason.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Create(Options options);
  // Closes all connections, answered or not.
  ~HttpServer();

  int port() const { return port_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Connection {
    int fd = -1;
    Clock::time_point deadline;
    std::string request;  // until it is answered
    std::string answer;   // empty: the request is not complete
    size_t sent = 0;
    bool lingers = false;  // answered; what still comes is thrown away
  };

  explicit HttpServer(Options options) : options_(std::move(options)) {}
  absl::Status Listen();
  void Run();
  void Accept();
  // These return whether the connection goes on.
  bool Serve(Connection& connection, short events);
  bool Read(Connection& connection);
  bool Write(Connection& connection);
  std::string Answer(const std::string& head) const;
  // Ends those whose time is over; returns when the next one's is.
  Clock::time_point Expire();

  const Options options_;
  int listen_fd_ = -1;
  int stop_fd_ = -1;
  int port_ = 0;
  Clock::time_point accept_after_ = Clock::time_point::min();
  std::list<Connection> connections_;  // oldest first; of the thread
  std::thread thread_;
};

}  // namespace kvtier
