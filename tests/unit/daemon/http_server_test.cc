// Proves that the HTTP server answers its three paths, says why it is not ready, and ends while
// clients are connected.
#include "daemon/http_server.h"

#include <gtest/gtest.h>
#include <httplib.h>

#include <atomic>

namespace kvtier {
namespace {

TEST(HttpServer, ServesMetricsAndHealth) {
  std::atomic<bool> ready{true};
  const auto server =
      HttpServer::Create({.address = {.host = "127.0.0.1", .port = 0},
                          .metrics = [] { return std::string("kvtier_x 1\n"); },
                          .not_ready = [&] { return std::string(ready ? "" : "draining"); }});
  ASSERT_TRUE(server.ok()) << server.status();
  httplib::Client client("127.0.0.1", (*server)->port());
  const auto metrics = client.Get("/metrics");
  ASSERT_TRUE(metrics);
  EXPECT_EQ(metrics->status, 200);
  EXPECT_EQ(metrics->body, "kvtier_x 1\n");
  EXPECT_EQ(metrics->get_header_value("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(client.Get("/healthz")->status, 200);
  EXPECT_EQ(client.Get("/readyz")->status, 200);
  ready = false;
  EXPECT_EQ(client.Get("/readyz")->status, 503);
  EXPECT_EQ(client.Get("/readyz")->body, "draining\n");
  EXPECT_EQ(client.Get("/healthz")->status, 200);
  EXPECT_EQ(client.Get("/etc/passwd")->status, 404);
}

TEST(HttpServer, AnAddressInUseIsNamed) {
  const auto make = [](int port) {
    return HttpServer::Create({.address = {.host = "127.0.0.1", .port = port},
                               .metrics = [] { return std::string(); },
                               .not_ready = [] { return std::string(); }});
  };
  const auto first = make(0);
  ASSERT_TRUE(first.ok());
  const auto second = make((*first)->port());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(second.status().message().find(std::to_string((*first)->port())),
            absl::string_view::npos);
}

}  // namespace
}  // namespace kvtier
