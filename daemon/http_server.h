// /metrics, /healthz and /readyz.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "daemon/config_check.h"

namespace httplib {
class Server;
}

namespace kvtier {

// Two threads of its own and a short queue; further connections wait in the kernel's backlog.
// Handlers may be called from both threads at once.
class HttpServer {
 public:
  struct Options {
    HttpAddress address;  // port 0: any free one
    std::function<std::string()> metrics;
    // Empty: ready. Else the reason, which /readyz gives with 503.
    std::function<std::string()> not_ready;
  };
  // UNAVAILABLE when the address cannot be bound, naming it.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Create(Options options);
  ~HttpServer();

  int port() const { return port_; }

 private:
  explicit HttpServer(Options options);

  const Options options_;
  std::unique_ptr<httplib::Server> server_;
  int port_ = 0;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

}  // namespace kvtier
