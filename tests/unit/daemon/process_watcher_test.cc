// Proves that sessions end with the process they are bound to, by killing real child processes, and
// that connections are forgotten when they close. The children connect to a socket and then only
// wait. Once as the kernel of this machine tells who connected, and once by pids alone.
#include "daemon/process_watcher.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>

namespace kvtier {
namespace {

constexpr TenantId kTenant(2);

class ProcessWatcherTest : public ::testing::TestWithParam<PeerLookup> {
 protected:
  void SetUp() override { Create({.connections_max = 3, .sessions_max = 2}); }
  void Create(ProcessWatcher::Options options) {
    options.on_process_end = [this](TenantId tenant, const std::vector<SessionId>& sessions) {
      const MutexLock lock(mutex_);
      EXPECT_EQ(tenant, kTenant);
      ended_.insert(ended_.end(), sessions.begin(), sessions.end());
      changed_.notify_all();
    };
    options.peer_lookup = GetParam();
    auto watcher = ProcessWatcher::Create(std::move(options));
    ASSERT_TRUE(watcher.ok()) << watcher.status();
    watcher_ = *std::move(watcher);
  }
  void TearDown() override {
    for (const pid_t child : children_) Kill(child);
    watcher_.reset();
    for (const int fd : fds_) close(fd);
  }

  // A child that connected; the accepted end is returned.
  std::pair<pid_t, int> StartChild() {
    if (listener_ < 0) {
      // An abstract address leaves no file; the kernel picks it.
      address_.sun_family = AF_UNIX;
      address_bytes_ = sizeof(sa_family_t);
      listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address_), address_bytes_), 0);
      address_bytes_ = sizeof address_;
      EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address_), &address_bytes_), 0);
      EXPECT_EQ(listen(listener_, 8), 0);
      fds_.push_back(listener_);
    }
    const pid_t child = fork();
    if (child == 0) {
      const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
      if (connect(fd, reinterpret_cast<sockaddr*>(&address_), address_bytes_) != 0) _exit(1);
      while (true) pause();
    }
    children_.push_back(child);
    const int accepted = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    EXPECT_GE(accepted, 0);
    fds_.push_back(accepted);
    return {child, accepted};
  }
  void Kill(pid_t child) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  std::vector<SessionId> AwaitEnded(size_t count) {
    const MutexLock lock(mutex_);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (ended_.size() < count &&
           changed_.wait_until(mutex_, deadline) == std::cv_status::no_timeout) {
    }
    return ended_;
  }
  bool AwaitConnections(uint32_t connections) {
    return Await([&] { return watcher_->connections() == connections; });
  }
  template <typename Condition>
  bool Await(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

  int listener_ = -1;
  sockaddr_un address_{};
  socklen_t address_bytes_ = 0;
  Mutex mutex_;
  CondVar changed_;
  std::vector<SessionId> ended_;
  std::vector<pid_t> children_;
  std::vector<int> fds_;
  std::unique_ptr<ProcessWatcher> watcher_;
};

TEST_P(ProcessWatcherTest, SessionsEndWithTheirProcess) {
  const auto [child, fd] = StartChild();
  const auto [other, other_fd] = StartChild();
  ASSERT_TRUE(watcher_->AddConnection(kTenant, child, fd).ok());
  ASSERT_TRUE(watcher_->AddConnection(kTenant, other, other_fd).ok());
  EXPECT_TRUE(watcher_->BindSession(kTenant, child, SessionId(7)));
  EXPECT_TRUE(watcher_->BindSession(kTenant, other, SessionId(8)));
  EXPECT_TRUE(watcher_->BindSession(kTenant, child, SessionId(9)));
  EXPECT_EQ(watcher_->ProcessOf(kTenant, SessionId(9)), child);
  EXPECT_EQ(watcher_->ProcessOf(kTenant, SessionId(8)), other);
  EXPECT_EQ(watcher_->ProcessOf(TenantId(kTenant.value() + 1), SessionId(8)), std::nullopt);
  watcher_->UnbindSession(kTenant, SessionId(9));
  EXPECT_EQ(watcher_->ProcessOf(kTenant, SessionId(9)), std::nullopt);
  Kill(child);
  EXPECT_EQ(AwaitEnded(1), std::vector<SessionId>{SessionId(7)});
  EXPECT_TRUE(AwaitConnections(1));
  EXPECT_EQ(watcher_->processes(), 1u);
  EXPECT_FALSE(watcher_->BindSession(kTenant, child, SessionId(10)));
}

TEST_P(ProcessWatcherTest, BindsOnlyToKnownProcessesOfTheTenant) {
  const auto [child, fd] = StartChild();
  ASSERT_TRUE(watcher_->AddConnection(kTenant, child, fd).ok());
  EXPECT_FALSE(watcher_->BindSession(TenantId(3), child, SessionId(1)));
  EXPECT_FALSE(watcher_->BindSession(kTenant, child + 1, SessionId(1)));
  EXPECT_FALSE(watcher_->BindSession(kTenant, 0, SessionId(1)));
  EXPECT_FALSE(watcher_->BindSession(kTenant, -1, SessionId(1)));
  EXPECT_FALSE(watcher_->BindSession(kTenant, int64_t{1} << 40, SessionId(1)));
}

TEST_P(ProcessWatcherTest, TheOldestSessionOfAProcessIsForgottenAtTheLimit) {
  const auto [child, fd] = StartChild();
  ASSERT_TRUE(watcher_->AddConnection(kTenant, child, fd).ok());
  for (const uint64_t session : {1, 2, 3})
    EXPECT_TRUE(watcher_->BindSession(kTenant, child, SessionId(session)));
  Kill(child);
  EXPECT_EQ(AwaitEnded(2), (std::vector<SessionId>{SessionId(2), SessionId(3)}));
}

TEST_P(ProcessWatcherTest, ConnectionsAreCountedUntilTheyClose) {
  const auto [child, fd] = StartChild();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(watcher_->AddConnection(kTenant, child, fd).ok());
  const absl::Status refused = watcher_->AddConnection(kTenant, child, fd);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.message(),
            "the tenant has 3 connections, which is its limit: limits.connections_max is 3");
  EXPECT_TRUE(watcher_->BindSession(kTenant, child, SessionId(1)));
  // As the server does when it closes a connection: our own second descriptor must notice that,
  // too.
  shutdown(fd, SHUT_RDWR);
  EXPECT_TRUE(AwaitConnections(0));
  // The process lives on, and so does its session.
  EXPECT_EQ(watcher_->processes(), 1u);
  watcher_->UnbindSession(kTenant, SessionId(1));
  EXPECT_EQ(watcher_->processes(), 0u);
}

TEST_P(ProcessWatcherTest, AnUnknownPidIsCountedAndNotWatched) {
  const auto [child, fd] = StartChild();
  ASSERT_TRUE(watcher_->AddConnection(kTenant, 0, fd).ok());
  EXPECT_EQ(watcher_->connections(), 1u);
  EXPECT_EQ(watcher_->processes(), 0u);
  Kill(child);
  EXPECT_TRUE(AwaitConnections(0));
}

TEST_P(ProcessWatcherTest, EachTenantHasItsShareAndAdminsAFewMore) {
  Create({.connections_max = 4, .tenants = 2, .admins = {TenantId(1)}});
  const auto [child, fd] = StartChild();
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(watcher_->AddConnection(TenantId(0), child, fd).ok());
  EXPECT_EQ(watcher_->AddConnection(TenantId(0), child, fd).message(),
            "the tenant has 2 connections, which is its limit: limits.connections_max is 4, shared "
            "by 2 tenants");
  for (uint32_t i = 0; i < 2 + ProcessWatcher::kAdminConnections; ++i)
    ASSERT_TRUE(watcher_->AddConnection(TenantId(1), child, fd).ok());
  EXPECT_FALSE(watcher_->AddConnection(TenantId(1), child, fd).ok());
  shutdown(fd, SHUT_RDWR);
  EXPECT_TRUE(AwaitConnections(0));
  const auto [other, other_fd] = StartChild();
  EXPECT_TRUE(watcher_->AddConnection(TenantId(0), other, other_fd).ok());
  // At least one, however many they are.
  Create({.connections_max = 4, .tenants = 64});
  EXPECT_TRUE(watcher_->AddConnection(TenantId(63), other, other_fd).ok());
  EXPECT_FALSE(watcher_->AddConnection(TenantId(63), other, other_fd).ok());
}

TEST_P(ProcessWatcherTest, AProcessIsNotWatchedForASessionThatTimedOut) {
  std::atomic<bool> known{true};
  std::atomic<int> asked{0};
  Create({.session_known =
              [&](TenantId, SessionId) {
                ++asked;
                return known.load();
              },
          .prune_interval = std::chrono::milliseconds(1)});
  const auto [child, fd] = StartChild();
  ASSERT_TRUE(watcher_->AddConnection(kTenant, child, fd).ok());
  ASSERT_TRUE(watcher_->BindSession(kTenant, child, SessionId(1)));
  EXPECT_EQ(asked, 0) << "while it is connected nobody has to ask";
  shutdown(fd, SHUT_RDWR);
  EXPECT_TRUE(Await([&] { return asked > 2; }));
  EXPECT_EQ(watcher_->processes(), 1u) << "its session goes on";
  known = false;
  EXPECT_TRUE(Await([&] { return watcher_->processes() == 0; }));
  EXPECT_EQ(kill(child, 0), 0) << "the process itself goes on";
  watcher_.reset();  // it refers to what ends with the test's body
}

TEST_P(ProcessWatcherTest, ATenantsWatchedProcessesAreLimited) {
  Create({.connections_max = 1});
  const auto [child, fd] = StartChild();
  ASSERT_TRUE(watcher_->AddConnection(kTenant, child, fd).ok());
  ASSERT_TRUE(watcher_->BindSession(kTenant, child, SessionId(1)));
  shutdown(fd, SHUT_RDWR);
  EXPECT_TRUE(AwaitConnections(0));
  const auto [other, other_fd] = StartChild();
  ASSERT_TRUE(watcher_->AddConnection(kTenant, other, other_fd).ok());
  EXPECT_EQ(watcher_->processes(), 1u);
  EXPECT_FALSE(watcher_->BindSession(kTenant, other, SessionId(2)));
  shutdown(other_fd, SHUT_RDWR);
  EXPECT_TRUE(AwaitConnections(0));
  EXPECT_EQ(watcher_->processes(), 1u);
}

// By its pid alone a process that hung up is not known: the number may be another one's.
TEST_P(ProcessWatcherTest, AProcessThatIsGoneIsNotWatched) {
  const auto started = StartChild();
  const pid_t child = started.first;
  Kill(child);
  ASSERT_TRUE(watcher_->AddConnection(kTenant, child, started.second).ok());
  EXPECT_TRUE(AwaitConnections(0));
  EXPECT_TRUE(Await([&] { return !watcher_->BindSession(kTenant, child, SessionId(1)); }));
}

INSTANTIATE_TEST_SUITE_P(Lookups, ProcessWatcherTest,
                         ::testing::Values(PeerLookup::kSocket, PeerLookup::kPid),
                         [](const auto& instance) {
                           return instance.param == PeerLookup::kSocket ? "Socket" : "Pid";
                         });

}  // namespace
}  // namespace kvtier
