// Proves the limits of the attach socket that take a configuration of their own: who connects and
// says nothing is closed after a while, a tenant has so many connections and no more, and the next
// one after some were closed is served. Packets of all kinds are in
// tests/integration/attach_socket_test.cc.
#include "daemon/attach_server.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/temp_dir.h"
#include "tests/unit/daemon/service_fixture.h"

namespace kvtier {
namespace {

constexpr int kPatienceMs = 20'000;

class AttachServerTest : public ServiceTest {
 protected:
  void Serve(std::chrono::milliseconds hello_timeout, uint32_t channels_max) {
    // This process belongs to the first tenant.
    v1::Config config = config_;
    config.mutable_tenants(0)->set_uids(0, geteuid());
    auto listener = UnixListener::Create(Path(), 0600, absl::Seconds(5), SOCK_SEQPACKET);
    ASSERT_TRUE(listener.ok()) << listener.status();
    AttachServer::Options options{.listener = *std::move(listener),
                                  .tenants = TenantByUid(config),
                                  .channels_max = channels_max,
                                  .memory = {},
                                  .hello_timeout = hello_timeout};
    for (int i = 0; i < config.tenants_size(); ++i) {
      auto region = SharedRegion::Create("index", KiB(4), SharedRegion::Writers::kOwner);
      ASSERT_TRUE(region.ok()) << region.status();
      options.memory.indexes.push_back(region->get());
      options.memory.tenants.push_back(config.tenants(i).name());
      indexes_.push_back(*std::move(region));
    }
    options.memory.host = host_.get();
    options.memory.watcher = watcher_.get();
    options.memory.drain = &drain_;
    options.memory.daemon_epoch = context_.epoch;
    auto server = AttachServer::Create(std::move(options));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::string Path() const { return directory_.path() + "/k.sock.shm"; }

  OwnedFd ConnectClient() const {
    OwnedFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = Path();
    std::memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  // Whether the server closes it without a word.
  static bool IsClosed(const OwnedFd& fd) {
    pollfd waits{.fd = fd.get(), .events = POLLIN, .revents = 0};
    char byte = 0;
    return poll(&waits, 1, kPatienceMs) == 1 && recv(fd.get(), &byte, 1, 0) == 0;
  }
  // A refusal is an answer.
  static bool IsServed(const OwnedFd& fd) {
    wire::HelloRequest hello;
    hello.magic = 0;
    if (send(fd.get(), &hello, sizeof hello, MSG_NOSIGNAL) != sizeof hello) return false;
    wire::HelloReply reply;
    pollfd waits{.fd = fd.get(), .events = POLLIN, .revents = 0};
    return poll(&waits, 1, kPatienceMs) == 1 &&
           recv(fd.get(), &reply, sizeof reply, 0) == sizeof reply;
  }

  test_support::TempDir directory_;
  std::vector<std::unique_ptr<SharedRegion>> indexes_;
  std::unique_ptr<AttachServer> server_;
};

TEST_F(AttachServerTest, WhoSaysNothingIsClosedAfterAWhile) {
  Serve(std::chrono::milliseconds(50), 8);
  const OwnedFd first = ConnectClient();
  const OwnedFd second = ConnectClient();
  EXPECT_TRUE(IsClosed(first));
  EXPECT_TRUE(IsClosed(second));
  EXPECT_EQ(server_->attached(), 0u);
}

TEST_F(AttachServerTest, ATenantHasSoManyConnectionsAndNoMore) {
  Serve(std::chrono::hours(1), 2);
  OwnedFd first = ConnectClient();
  const OwnedFd second = ConnectClient();
  const OwnedFd third = ConnectClient();
  EXPECT_TRUE(IsClosed(third));
  EXPECT_EQ(server_->refused(), 1u);
  EXPECT_TRUE(IsServed(second));
  EXPECT_TRUE(IsClosed(second)) << "after a refusal";
  const OwnedFd fourth = ConnectClient();
  EXPECT_TRUE(IsServed(fourth)) << "in its place";
  server_->Stop();
  EXPECT_TRUE(IsClosed(first));
  EXPECT_FALSE(std::filesystem::exists(Path()));
}

}  // namespace
}  // namespace kvtier
