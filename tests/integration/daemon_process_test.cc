// kvtierd as a process among others: what it does with closed standard descriptors, signals, flags,
// and files that others left or hold where its socket is to be.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/wire/version.h"
#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

using ::testing::HasSubstr;

std::string TargetOf(pid_t pid, int fd) {
  std::error_code gone;
  return std::filesystem::read_symlink(absl::StrCat("/proc/", pid, "/fd/", fd), gone).string();
}

std::string TextOf(const std::string& path) {
  std::ifstream file(path);
  return std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
}

// Processes that are connected to a socket and do nothing. They end with the object.
class ConnectedChildren {
 public:
  ConnectedChildren(const std::string& path, size_t count) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    int stay[2];
    EXPECT_EQ(pipe2(stay, O_CLOEXEC), 0);
    while (pids_.size() < count) {
      const pid_t child = fork();
      // Between fork and exit only system calls: the test's other threads are not there.
      if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(stay[1]);
        const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) _exit(1);
        char byte = 0;
        static_cast<void>(!read(stay[0], &byte, 1));  // ends when the test closes its end
        close(fd);
        while (true) pause();
      }
      EXPECT_GT(child, 0);
      pids_.push_back(child);
    }
    close(stay[0]);
    stay_fd_ = stay[1];
  }
  ~ConnectedChildren() {
    if (stay_fd_ >= 0) close(stay_fd_);
    for (const pid_t child : pids_) kill(child, SIGKILL);
    for (const pid_t child : pids_) EXPECT_EQ(waitpid(child, nullptr, 0), child);
  }
  const std::vector<pid_t>& pids() const { return pids_; }
  // They close their connections and live on.
  void Disconnect() {
    close(stay_fd_);
    stay_fd_ = -1;
  }

 private:
  std::vector<pid_t> pids_;
  int stay_fd_ = -1;
};

class DaemonProcessTest : public DaemonTest {
 protected:
  // kvtierd by way of a shell that first does something to its own descriptors or signals.
  std::unique_ptr<ChildProcess> StartByShell(const std::string& before, const std::string& after) {
    const std::string config = directory_->Write("by_shell.yaml", SmallConfig());
    ChildProcess::Options options;
    options.arguments = {
        "/bin/sh", "-c",
        absl::StrCat(before, " exec ", ProgramPath("kvtierd"), " --config ", config, " --socket ",
                     socket(), " --set log.level=debug ", after)};
    options.log_file = directory() + "/by_shell.log";
    options.talk = false;
    absl::StatusOr<std::unique_ptr<ChildProcess>> process = ChildProcess::Start(options);
    EXPECT_THAT(process, IsOk());
    if (!process.ok()) return nullptr;
    EXPECT_TRUE(Await([this] { return Client::Connect(Options()).ok(); }));
    return *std::move(process);
  }
};

TEST_F(DaemonProcessTest, ClosedStandardDescriptorsAreNeverAPoolsMemory) {
  const auto process = StartByShell("", "<&- >&- 2>&-");
  ASSERT_NE(process, nullptr);
  for (const int fd : {0, 1, 2}) EXPECT_EQ(TargetOf(process->pid(), fd), "/dev/null") << fd;
  process->Signal(SIGTERM);
  EXPECT_THAT(process->Wait(kSoon), IsOk());
}

TEST_F(DaemonProcessTest, AnEmptyPathIsNoReasonToStart) {
  for (const char* flag : {"--config", "--check-config", "--socket"}) {
    std::string output;
    const std::string log = directory() + "/refused.log";
    ASSERT_OK_AND_ASSIGN(const int status,
                         RunProgram({ProgramPath("kvtierd"), flag, ""}, kSoon, &output, log));
    EXPECT_EQ(status, 2) << flag;
    EXPECT_THAT(TextOf(log), HasSubstr(absl::StrCat(flag, ": the path is empty")));
  }
}

TEST_F(DaemonProcessTest, ACheckWarnsAsAStartDoes) {
  const std::string file = directory_->Write(
      "k.yaml", SmallConfig("tenants: [{name: a, uids: [1]}, {name: b, uids: [2]}]\n"));
  const std::string pools =
      "pools=[{name: 'dram:0', kind: dram, budget_bytes: 8MiB, numa_node: 1023}]";
  std::string output;
  const std::string log = directory() + "/checked.log";
  ASSERT_OK_AND_ASSIGN(const int status,
                       RunProgram({ProgramPath("kvtierd"), "--check-config", file, "--set", pools},
                                  kSoon, &output, log));
  EXPECT_EQ(status, 0);
  EXPECT_EQ(output, file + ": ok\n");
  EXPECT_THAT(TextOf(log), HasSubstr("tenants can crowd each other out in pool dram:0"));
  EXPECT_THAT(TextOf(log), HasSubstr("this machine has no NUMA node 1023"));
}

TEST_F(DaemonProcessTest, ASignalThatComesTwiceAtOnceStillDrains) {
  for (const int signal : {SIGTERM, SIGHUP}) {
    StartDaemon();
    const auto client = Connect();
    ASSERT_NE(client, nullptr);
    ASSERT_OK_AND_ASSIGN(const Model model, client->RegisterModel(UnequalModel()));
    ASSERT_OK_AND_ASSIGN(const ReservationHandle held, client->Reserve({.model = model}));
    // Two of a kind could become one on their way.
    daemon().process().Signal(signal);
    daemon().process().Signal(SIGINT);
    EXPECT_TRUE(Await([&] { return daemon().Status().draining(); }));
    EXPECT_THAT(client->Abort(held), IsOk()) << "it goes on until this ends";
    ASSERT_OK_AND_ASSIGN(const int status, daemon().process().Wait(kSoon));
    EXPECT_EQ(status, 0);
    EXPECT_FALSE(std::filesystem::exists(socket()));
  }
}

TEST_F(DaemonProcessTest, ALaterSignalExitsAtOnceAndLeavesNoSocket) {
  StartDaemon(SmallConfig(), {"--drain-seconds", "600"});
  const auto client = Connect();
  ASSERT_NE(client, nullptr);
  ASSERT_OK_AND_ASSIGN(const Model model, client->RegisterModel(UnequalModel()));
  ASSERT_THAT(client->Reserve({.model = model}), IsOk());
  daemon().process().Signal(SIGTERM);
  // Repeats count for nothing until a second has passed since the first.
  absl::StatusOr<int> status;
  EXPECT_TRUE(Await([&] {
    daemon().process().Signal(SIGTERM);
    status = daemon().process().Wait(absl::Milliseconds(50));
    return status.ok();
  }));
  ASSERT_THAT(status, IsOk());
  EXPECT_EQ(WEXITSTATUS(*status), 1);
  EXPECT_FALSE(std::filesystem::exists(socket()));
}

TEST_F(DaemonProcessTest, HangUpsThatAreIgnoredStayIgnored) {
  const auto process = StartByShell("trap '' HUP;", "");
  ASSERT_NE(process, nullptr);
  process->Signal(SIGHUP);
  const auto client = Connect();
  ASSERT_NE(client, nullptr);
  EXPECT_THAT(client->RegisterModel(UnequalModel()), IsOk());
  process->Signal(SIGTERM);
  ASSERT_OK_AND_ASSIGN(const int status, process->Wait(kSoon));
  EXPECT_EQ(status, 0);
  EXPECT_THAT(TextOf(directory() + "/by_shell.log"),
              HasSubstr("signal received: draining signal=15"));
}

TEST_F(DaemonProcessTest, ProcessesThatCameAndWentLeaveNoDescriptor) {
  constexpr size_t kChildren = 200;
  StartDaemon(SmallConfig("limits: {session_timeout_ms: 100ms}\n"));
  EXPECT_EQ(daemon().Status().sessions(), 0u);  // and this test's own connection is there
  const size_t before = daemon().SettledFiles();
  ConnectedChildren children(socket(), kChildren);
  EXPECT_TRUE(Await([&] { return daemon().Facts().open_files >= before + 3 * kChildren; }));
  for (const pid_t child : children.pids()) {
    v1::AttachRequest request;
    request.mutable_version()->set_major(wire::kProtocolMajor);
    request.set_pid(child);
    v1::AttachReply reply;
    grpc::ClientContext context;
    const grpc::Status status = daemon().kv().Attach(&context, request, &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_TRUE(reply.bound_to_process());
  }
  // They live on without a connection, and their sessions end by time.
  children.Disconnect();
  EXPECT_TRUE(Await([&] { return daemon().Facts().open_files <= before; }))
      << before << " files before, and now:\n"
      << daemon().OpenFiles();
}

TEST_F(DaemonProcessTest, SessionsThatComeAndGoDoNotFloodTheLog) {
  StartDaemon();
  const absl::Time start = absl::Now();
  for (int i = 0; i < 500; ++i) {
    v1::AttachRequest request;
    request.mutable_version()->set_major(wire::kProtocolMajor);
    request.set_client_name(std::string(128, '\x01'));
    v1::AttachReply reply;
    grpc::ClientContext attach;
    ASSERT_TRUE(daemon().kv().Attach(&attach, request, &reply).ok());
    v1::DetachRequest detach;
    detach.set_session_id(reply.session_id());
    v1::DetachReply detached;
    grpc::ClientContext context;
    ASSERT_TRUE(daemon().kv().Detach(&context, detach, &detached).ok());
  }
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  const std::string log = daemon().Log();
  const auto lines = static_cast<double>(std::count(log.begin(), log.end(), '\n'));
  EXPECT_GE(lines, 20);
  // There would be 1000 of some 900 bytes each.
  EXPECT_LE(lines, 40 + 12 * seconds);
}

TEST_F(DaemonProcessTest, AClientIsToldWhichLimitRefusesItsConnection) {
  StartDaemon(SmallConfig("limits: {connections_max: 1}\n"));
  const auto told =
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("limits.connections_max is 1"));
  EXPECT_THAT(Client::Connect(Options()), told) << "it has two, and one of them has room";
  const ConnectedChildren children(socket(), 1);
  EXPECT_THAT(Client::Connect(Options()), told);
}

}  // namespace
}  // namespace kvtier::test_support
