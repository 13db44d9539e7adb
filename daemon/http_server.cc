#include "daemon/http_server.h"

#include <httplib.h>

#include <deque>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tiering/base/mutex.h"

namespace kvtier {
namespace {

constexpr size_t kThreads = 2;
constexpr size_t kQueueMax = 16;
constexpr size_t kRequestBytesMax = 16 * 1024;
constexpr int kTimeoutSeconds = 5;

// A queue with a limit: whoever accepts waits for room, so that connections pile up in the kernel
// and not here.
class BoundedTaskQueue : public httplib::TaskQueue {
 public:
  BoundedTaskQueue() {
    for (size_t i = 0; i < kThreads; ++i) threads_.emplace_back([this] { Run(); });
  }

  void enqueue(std::function<void()> task) override {
    const MutexLock lock(mutex_);
    while (tasks_.size() >= kQueueMax && !stopping_) changed_.wait(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_all();
  }

  void shutdown() override {
    {
      const MutexLock lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void Run() {
    while (true) {
      std::function<void()> task;
      {
        const MutexLock lock(mutex_);
        while (tasks_.empty() && !stopping_) changed_.wait(mutex_);
        // What was accepted is served: a task also closes its connection.
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      changed_.notify_all();
      task();
    }
  }

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace

HttpServer::HttpServer(Options options)
    : options_(std::move(options)), server_(std::make_unique<httplib::Server>()) {}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Create(Options options) {
  auto http = std::unique_ptr<HttpServer>(new HttpServer(std::move(options)));
  httplib::Server& server = *http->server_;
  const Options& handlers = http->options_;
  server.new_task_queue = [] { return new BoundedTaskQueue; };
  // Not SO_REUSEPORT, which the library would set: a second daemon on the same port is an error.
  server.set_socket_options([](socket_t socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
  server.set_read_timeout(kTimeoutSeconds);
  server.set_write_timeout(kTimeoutSeconds);
  // One request a connection: an idle one would keep a thread.
  server.set_keep_alive_max_count(1);
  server.set_payload_max_length(kRequestBytesMax);
  server.Get("/metrics", [&handlers](const httplib::Request&, httplib::Response& response) {
    response.set_content(handlers.metrics(), "text/plain; version=0.0.4; charset=utf-8");
  });
  server.Get("/healthz", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("ok\n", "text/plain");
  });
  server.Get("/readyz", [&handlers](const httplib::Request&, httplib::Response& response) {
    const std::string reason = handlers.not_ready();
    if (!reason.empty()) response.status = 503;
    response.set_content(reason.empty() ? "ready\n" : reason + "\n", "text/plain");
  });
  const HttpAddress& address = handlers.address;
  const bool bound = address.port == 0
                         ? (http->port_ = server.bind_to_any_port(address.host.c_str())) > 0
                         : server.bind_to_port(address.host.c_str(), address.port);
  if (!bound) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on listen.http ", address.host, ":", address.port));
  }
  if (address.port != 0) http->port_ = address.port;
  http->thread_ = std::thread([raw = http.get()] {
    raw->server_->listen_after_bind();
    raw->ended_ = true;
  });
  return http;
}

HttpServer::~HttpServer() {
  if (!thread_.joinable()) return;
  // stop() does nothing before the loop runs, and the loop would then never end.
  while (!server_->is_running() && !ended_) std::this_thread::yield();
  server_->stop();
  thread_.join();
}

}  // namespace kvtier
