// A real kvtierd for one test: started in a directory of its own, stopped, and checked to have left
// nothing behind.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kvtier/client.h"
#include "kvtier/v1/admin.grpc.pb.h"
#include "kvtier/v1/kv_cache.grpc.pb.h"
#include "tests/support/child_process.h"
#include "tests/support/sanitized.h"
#include "tests/support/temp_dir.h"

namespace kvtier::test_support {

// Long enough for whatever must happen soon on a busy machine; nothing waits for it to pass.
inline constexpr absl::Duration kSoon = absl::Seconds(20);

// Asks until `condition` holds, or `timeout` passed. A condition asks a daemon or the kernel, so
// each question takes its time.
template <typename Condition>
bool Await(Condition&& condition, absl::Duration timeout = kSoon) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
  }
  return true;
}

// Two small pools in segments of 1 MiB, no reserve of machine memory; `more` is further YAML.
std::string SmallConfig(absl::string_view more = "", absl::string_view hbm = "4MiB",
                        absl::string_view dram = "8MiB");

// What the kernel says a process holds.
struct ProcessFacts {
  // Without the first one of each pool's segment that it maps, which pools have, some ahead of use.
  size_t open_files = 0;
  // Of those, what is open for a moment only: segments not mapped yet, files of the kernel's.
  size_t passing_files = 0;
  size_t threads = 0;
  uint64_t anonymous_bytes = 0;  // resident, without pools
  uint64_t memfd_bytes = 0;      // of pools' segments that it maps
};
ProcessFacts FactsOf(pid_t pid);
// A line for each file that a process has open: its number and what it is, sockets of this machine
// with their type and the path that they are bound to. For what a test says when there are too
// many.
std::string OpenFilesOf(pid_t pid);

class TestDaemon {
 public:
  // The socket is `directory`/kvtierd.sock. The error has the daemon's log.
  static absl::StatusOr<std::unique_ptr<TestDaemon>> Start(
      const std::string& directory, const std::string& config,
      const std::vector<std::string>& more_arguments = {});

  const std::string& socket() const { return socket_; }
  pid_t pid() const { return process_->pid(); }
  ChildProcess& process() { return *process_; }
  std::string Log() const;

  // SIGTERM. An error unless it then exits with 0 and its socket is gone.
  absl::Status Stop();
  void Kill() { process_->Kill(); }
  ProcessFacts Facts() const { return FactsOf(pid()); }
  // Open files to compare with later ones: counted when no pool is about to open a segment.
  size_t SettledFiles() const;
  std::string OpenFiles() const { return OpenFilesOf(pid()); }

  // Stubs as any gRPC client makes them, without kvtier's client library.
  v1::KvCache::Stub& kv() { return *kv_; }
  v1::Admin::Stub& admin() { return *admin_; }
  v1::StatusReply Status();
  v1::PoolsReply Pools();
  uint64_t UsedBytes();  // of all pools together
  // A line of /metrics, where the configuration has `listen.http`; the name has the labels. -1:
  // there is none.
  int64_t Metric(absl::string_view name) const;

 private:
  TestDaemon() = default;

  std::string socket_;
  std::string log_file_;
  std::unique_ptr<ChildProcess> process_;
  std::unique_ptr<v1::KvCache::Stub> kv_;
  std::unique_ptr<v1::Admin::Stub> admin_;
};

class DaemonTest : public ::testing::Test {
 protected:
  DaemonTest();
  // Stops the daemon where the test has not, and checks that no process, socket, directory or
  // shared memory of the test is left.
  void TearDown() override;

  void StartDaemon(const std::string& config = SmallConfig(),
                   const std::vector<std::string>& more_arguments = {});
  ClientOptions Options(const std::string& name = "test") const;
  // Attached; null, with a failure noted, otherwise.
  std::unique_ptr<Client> Connect() { return Connect(Options()); }
  std::unique_ptr<Client> Connect(const ClientOptions& options);

  const std::string& directory() const { return directory_->path(); }
  std::string socket() const { return directory() + "/kvtierd.sock"; }
  TestDaemon& daemon() { return *daemon_; }

  std::unique_ptr<TempDir> directory_;
  std::unique_ptr<TestDaemon> daemon_;
};

// A daemon, one client of it, and the model of UnequalModel() registered.
class ClientTest : public DaemonTest {
 protected:
  void Start(const std::string& config = SmallConfig());
  void TearDown() override;

  std::unique_ptr<Client> client_;
  Model model_;
};

}  // namespace kvtier::test_support
