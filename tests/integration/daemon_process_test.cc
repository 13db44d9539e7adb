// kvtierd as a process among others: what it does with closed standard descriptors, signals, flags,
// and files that others left or hold where its socket is to be.
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

using ::testing::HasSubstr;

std::string TargetOf(pid_t pid, int fd) {
  std::error_code gone;
  return std::filesystem::read_symlink(absl::StrCat("/proc/", pid, "/fd/", fd), gone).string();
}

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

}  // namespace
}  // namespace kvtier::test_support
