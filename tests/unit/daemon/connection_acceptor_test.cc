// Proves who is let in: the tenant is decided by uid alone, strangers and connections beyond the
// limit are closed. Works on real sockets in a directory of its own.
#include "daemon/connection_acceptor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "daemon/config_loader.h"
#include "tests/support/temp_dir.h"
#include "tiering/base/mutex.h"

namespace kvtier {
namespace {

using test_support::TempDir;
using ::testing::HasSubstr;

int Connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

// Whether the other end closes the connection within 10 s.
bool Closes(int fd) {
  pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
  char byte = 0;
  return poll(&wait, 1, 10'000) == 1 && read(fd, &byte, 1) <= 0;
}

TEST(TenantByUid, DecidesByUidAlone) {
  const auto config = LoadConfig("tenants: [{name: a, uids: [10, 11]}, {name: b, uids: [0]}]", "t");
  ASSERT_TRUE(config.ok()) << config.status();
  const TenantByUid tenants(*config);
  EXPECT_EQ(tenants.Find(10), TenantId(0));
  EXPECT_EQ(tenants.Find(11), TenantId(0));
  EXPECT_EQ(tenants.Find(0), TenantId(1));
  EXPECT_EQ(tenants.Find(12), std::nullopt);
  EXPECT_EQ(tenants.Find(static_cast<uid_t>(-1)), std::nullopt);
}

class AcceptorTest : public ::testing::Test {
 protected:
  void Start(const std::string& yaml, uint32_t connections_max) {
    const auto config = LoadConfig(yaml, "t");
    ASSERT_TRUE(config.ok()) << config.status();
    auto watcher = ProcessWatcher::Create({.connections_max = connections_max,
                                           .sessions_max = 4,
                                           .on_process_end = [](TenantId, const auto&) {}});
    ASSERT_TRUE(watcher.ok());
    watcher_ = *std::move(watcher);
    auto listener = UnixListener::Create(path_, 0600);
    ASSERT_TRUE(listener.ok()) << listener.status();
    auto acceptor = ConnectionAcceptor::Create({.listener = *std::move(listener),
                                                .tenants = TenantByUid(*config),
                                                .watcher = watcher_.get(),
                                                .hand_over = [this](TenantId tenant, int fd) {
                                                  const MutexLock lock(mutex_);
                                                  handed_.emplace_back(tenant, fd);
                                                  changed_.notify_all();
                                                }});
    ASSERT_TRUE(acceptor.ok());
    acceptor_ = *std::move(acceptor);
  }
  void TearDown() override {
    acceptor_.reset();
    for (const auto& entry : handed_) close(entry.second);
  }
  std::pair<TenantId, int> AwaitHanded(size_t count) {
    const MutexLock lock(mutex_);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (handed_.size() < count &&
           changed_.wait_until(mutex_, deadline) == std::cv_status::no_timeout) {
    }
    return handed_.size() < count ? std::pair(TenantId(999), -1) : handed_[count - 1];
  }

  const TempDir dir_;
  const std::string path_ = dir_.path() + "/k.sock";
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::pair<TenantId, int>> handed_;
  std::unique_ptr<ProcessWatcher> watcher_;
  std::unique_ptr<ConnectionAcceptor> acceptor_;
};

TEST_F(AcceptorTest, HandsOverToTheTenantOfTheUid) {
  Start(absl::StrCat("tenants: [{name: other, uids: [", getuid() + 1, "]}, {name: me, uids: [",
                     getuid(), "]}]"),
        8);
  const int fd = Connect(path_);
  ASSERT_GE(fd, 0);
  const auto [tenant, handed] = AwaitHanded(1);
  EXPECT_EQ(tenant, TenantId(1));
  ASSERT_GE(handed, 0);
  EXPECT_EQ(write(handed, "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(read(fd, &byte, 1), 1);
  EXPECT_EQ(acceptor_->accepted(), 1u);
  EXPECT_EQ(watcher_->connections(), 1u);
  EXPECT_EQ(watcher_->processes(), 1u);
  close(fd);
}

TEST_F(AcceptorTest, ClosesStrangers) {
  Start(absl::StrCat("tenants: [{name: other, uids: [", getuid() + 1, "]}]"), 8);
  const int fd = Connect(path_);
  ASSERT_GE(fd, 0);
  EXPECT_TRUE(Closes(fd));
  EXPECT_EQ(acceptor_->refused_uid(), 1u);
  EXPECT_EQ(acceptor_->accepted(), 0u);
  EXPECT_TRUE(handed_.empty());
  close(fd);
}

TEST_F(AcceptorTest, ClosesConnectionsBeyondTheLimit) {
  Start("", 1);
  const int first = Connect(path_);
  ASSERT_GE(AwaitHanded(1).second, 0);
  const int second = Connect(path_);
  std::string said;
  char byte = 0;
  while (read(second, &byte, 1) == 1) said += byte;
  EXPECT_THAT(said, HasSubstr("limits.connections_max is 1"));
  EXPECT_EQ(acceptor_->refused_limit(), 1u);
  close(first);
  close(second);
}

}  // namespace
}  // namespace kvtier
