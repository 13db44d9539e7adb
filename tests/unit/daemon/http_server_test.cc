// Proves that the HTTP server answers its three paths, says why it is not ready, and that nobody
// who connects can make it grow, wait or stay: huge and endless requests, requests a byte at a
// time, more connections than it keeps. Talks to it over real sockets.
#include "daemon/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/http_get.h"

namespace kvtier {
namespace {

using test_support::ConnectPort;
using test_support::HttpExchange;
using test_support::HttpGet;
using test_support::ReadToEnd;
using test_support::SendAll;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// Far more than a test takes, so that what ends earlier did not end by time.
constexpr std::chrono::seconds kNever(600);

class HttpServerTest : public ::testing::Test {
 protected:
  void Start(std::chrono::milliseconds deadline = kNever, size_t connections_max = 32) {
    auto server = HttpServer::Create({.address = {.host = "127.0.0.1", .port = 0},
                                      .metrics = [this] { return metrics_; },
                                      .not_ready = [this] { return not_ready_; },
                                      .connections_max = connections_max,
                                      .deadline = deadline});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  void TearDown() override {
    for (const int fd : fds_) close(fd);
  }
  // One that stays open.
  int Connect() {
    fds_.push_back(ConnectPort(server_->port()));
    EXPECT_GE(fds_.back(), 0);
    return fds_.back();
  }

  std::string metrics_ = "kvtier_x 1\n";
  std::string not_ready_;
  std::vector<int> fds_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, ServesMetricsAndHealth) {
  Start();
  const int port = server_->port();
  EXPECT_THAT(HttpGet(port, "/metrics"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("\r\nContent-Length: 11\r\n"),
                    HasSubstr("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
                    EndsWith("\r\n\r\nkvtier_x 1\n")));
  EXPECT_THAT(HttpGet(port, "/metrics?name=x"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(HttpGet(port, "/healthz"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(HttpGet(port, "/readyz"), StartsWith("HTTP/1.1 200 "));
  not_ready_ = "draining";
  EXPECT_THAT(HttpGet(port, "/readyz"),
              AllOf(StartsWith("HTTP/1.1 503 "), EndsWith("\r\n\r\ndraining\n")));
  EXPECT_THAT(HttpGet(port, "/etc/passwd"), StartsWith("HTTP/1.1 404 "));
}

TEST_F(HttpServerTest, LargePagesComeWhole) {
  metrics_ = std::string(5'000'000, 'm');
  Start();
  const std::string page = HttpGet(server_->port(), "/metrics");
  EXPECT_THAT(page, HasSubstr("Content-Length: 5000000\r\n"));
  EXPECT_THAT(page, EndsWith("\r\n\r\n" + metrics_));
}

TEST_F(HttpServerTest, OtherRequestsAreRefused) {
  Start();
  const int port = server_->port();
  EXPECT_THAT(HttpExchange(port, "POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"),
              AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("\r\nAllow: GET\r\n")));
  for (const char* head : {"GET /metrics", "GET  /metrics HTTP/1.1", "GET /metrics HTTP/2.0",
                           "\x16\x03\x01", "GET /metrics HTTP/1.1 x", ""}) {
    EXPECT_THAT(HttpExchange(port, absl::StrCat(head, "\r\n\r\n")), StartsWith("HTTP/1.1 400 "))
        << head;
  }
  EXPECT_THAT(HttpExchange(port, "GET /healthz HTTP/1.0\n\n"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(HttpServerTest, HugeLinesAndManyHeadersAreCutOff) {
  Start();
  std::string huge;
  huge.resize(64 << 20, 'x');
  EXPECT_THAT(HttpExchange(server_->port(), huge), StartsWith("HTTP/1.1 431 "));
  std::string headers = "GET /healthz HTTP/1.1\r\n";
  for (int i = 0; i < 20'000; ++i) absl::StrAppend(&headers, "x", i, ": y\r\n");
  EXPECT_THAT(HttpExchange(server_->port(), headers + "\r\n"), StartsWith("HTTP/1.1 431 "));
}

TEST_F(HttpServerTest, SlowConnectionsDelayNobody) {
  Start();
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(SendAll(Connect(), "G"));
  EXPECT_THAT(HttpGet(server_->port(), "/healthz"), StartsWith("HTTP/1.1 200 "));
  for (const int fd : fds_) ASSERT_TRUE(SendAll(fd, "E"));
  EXPECT_THAT(HttpGet(server_->port(), "/healthz"), StartsWith("HTTP/1.1 200 "));
  // What comes in pieces is put together.
  ASSERT_TRUE(SendAll(fds_[3], "T /healthz HTTP/1.1\r\n\r\n"));
  EXPECT_THAT(ReadToEnd(fds_[3]), StartsWith("HTTP/1.1 200 "));
}

TEST_F(HttpServerTest, TimeEndsWhateverAConnectionDoes) {
  Start(std::chrono::milliseconds(50));
  const int silent = Connect();
  const int partial = Connect();
  ASSERT_TRUE(SendAll(partial, "GET /"));
  EXPECT_THAT(ReadToEnd(partial), StartsWith("HTTP/1.1 408 "));
  EXPECT_THAT(ReadToEnd(silent), IsEmpty());
  const int dripping = Connect();
  while (SendAll(dripping, "x")) {
  }  // all of it is read and thrown away until the time is over
}

TEST_F(HttpServerTest, TheOldestConnectionMakesRoom) {
  Start(kNever, 2);
  const int oldest = Connect();
  ASSERT_TRUE(SendAll(oldest, "G"));
  const int second = Connect();
  ASSERT_TRUE(SendAll(second, "GET /healthz HTTP/1.1\r\n"));
  EXPECT_THAT(HttpGet(server_->port(), "/healthz"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(ReadToEnd(oldest), IsEmpty());
  ASSERT_TRUE(SendAll(second, "\r\n"));
  EXPECT_THAT(ReadToEnd(second), StartsWith("HTTP/1.1 200 "));
}

TEST_F(HttpServerTest, EndsWhileConnectionsAreOpen) {
  metrics_.resize(50'000'000, 'm');
  Start();
  ASSERT_TRUE(SendAll(Connect(), "GET /"));
  const int reading = Connect();
  ASSERT_TRUE(SendAll(reading, "GET /metrics HTTP/1.1\r\n\r\n"));
  char first = 0;
  ASSERT_EQ(recv(reading, &first, 1, 0), 1);
  server_.reset();
  EXPECT_LT(ReadToEnd(reading).size(), metrics_.size());
  EXPECT_THAT(ReadToEnd(fds_[0]), IsEmpty());
}

TEST(HttpServer, AnAddressInUseIsNamed) {
  const auto make = [](const char* host, int port) {
    return HttpServer::Create({.address = {.host = host, .port = port},
                               .metrics = [] { return std::string(); },
                               .not_ready = [] { return std::string(); }});
  };
  const auto first = make("127.0.0.1", 0);
  ASSERT_TRUE(first.ok());
  const auto second = make("127.0.0.1", (*first)->port());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(second.status().message(), absl::StrCat("cannot listen on listen.http 127.0.0.1:",
                                                    (*first)->port(), ": Address already in use"));
  const auto elsewhere = make("2001:db8::1", 1);  // an address that no machine has
  EXPECT_THAT(std::string(elsewhere.status().message()),
              StartsWith("cannot listen on listen.http [2001:db8::1]:1: "));
}

}  // namespace
}  // namespace kvtier
