#include "tests/support/daemon_fixture.h"

#include <fcntl.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "proto/wire/attach_messages.h"
#include "proto/wire/version.h"
#include "tests/support/client_blocks.h"
#include "tests/support/http_get.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

std::string ReadFile(const std::string& path) {
  // What the kernel tells of a process may end in an error; this keeps what came before.
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

uint64_t StatusNumber(const std::string& status, absl::string_view field) {
  const size_t at = status.find(absl::StrCat("\n", field, ":"));
  if (at == std::string::npos) return 0;
  return std::strtoull(status.c_str() + at + field.size() + 2, nullptr, 10);
}

// By number, what each open file of a process is.
std::map<int, std::string> FilesOf(pid_t pid) {
  std::map<int, std::string> files;
  std::error_code gone;
  for (std::filesystem::directory_iterator entry(absl::StrCat("/proc/", pid, "/fd"), gone), end;
       entry != end; entry.increment(gone)) {
    std::error_code closed;
    const std::string what = std::filesystem::read_symlink(entry->path(), closed).string();
    if (!closed) files[std::stoi(entry->path().filename())] = what;
  }
  return files;
}

// Of a pool; what else is shared has another name.
bool IsSegment(absl::string_view file) { return absl::StrContains(file, "/memfd:kvtier:"); }

void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(absl::ToChronoTime(absl::Now() + kSoon));
}

}  // namespace

std::string SmallConfig(absl::string_view more, absl::string_view hbm, absl::string_view dram) {
  return absl::StrCat(
      "memory: {segment_bytes: 1MiB, reserve_bytes: 0, huge_pages: false}\n"
      "pools:\n  - {name: 'hbm:0', kind: hbm, budget_bytes: ",
      hbm, "}\n  - {name: 'dram:0', kind: dram, budget_bytes: ", dram, "}\n", more);
}

ProcessFacts FactsOf(pid_t pid) {
  const std::string folder = absl::StrCat("/proc/", pid);
  ProcessFacts facts;
  // Before the mappings: what a pool opens is mapped a moment later.
  const std::map<int, std::string> files = FilesOf(pid);
  std::set<uint64_t> mapped;
  std::istringstream maps(ReadFile(folder + "/maps"));
  for (std::string line; std::getline(maps, line);) {
    if (!IsSegment(line)) continue;
    const uint64_t begin = std::strtoull(line.c_str(), nullptr, 16);
    const uint64_t end = std::strtoull(line.c_str() + line.find('-') + 1, nullptr, 16);
    facts.memfd_bytes += end - begin;
    // "begin-end perms offset device inode path"
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    mapped.insert(std::strtoull(words[4].c_str(), nullptr, 10));
  }
  std::set<uint64_t> segments;
  for (const auto& [number, what] : files) {
    struct stat file {};
    const bool segment = IsSegment(what);
    if (segment && stat(absl::StrCat(folder, "/fd/", number).c_str(), &file) == 0 &&
        mapped.contains(file.st_ino) && segments.insert(file.st_ino).second) {
      continue;
    }
    ++facts.open_files;
    const bool unmapped = segment && !mapped.contains(file.st_ino);
    facts.passing_files +=
        unmapped || absl::StartsWith(what, "/proc/") || absl::StartsWith(what, "/sys/");
  }
  const std::string status = ReadFile(folder + "/status");
  facts.threads = StatusNumber(status, "Threads");
  facts.anonymous_bytes = StatusNumber(status, "RssAnon") * 1024;
  return facts;
}

std::string OpenFilesOf(pid_t pid) {
  // "Num RefCount Protocol Flags Type St Inode Path" of every socket.
  std::map<std::string, std::string> sockets;
  std::istringstream table(ReadFile("/proc/net/unix"));
  for (std::string line; std::getline(table, line);) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() < 7) continue;
    sockets[absl::StrCat("socket:[", words[6], "]")] = absl::StrCat(
        " unix, type ", words[4], ", state ", words[5], " ", words.size() > 7 ? words[7] : "");
  }
  std::map<int, std::string> files = FilesOf(pid);
  for (auto& [number, what] : files) what += sockets[what];
  return absl::StrJoin(files, "\n", absl::PairFormatter(" "));
}

absl::StatusOr<std::unique_ptr<TestDaemon>> TestDaemon::Start(
    const std::string& directory, const std::string& config,
    const std::vector<std::string>& more_arguments) {
  std::unique_ptr<TestDaemon> daemon(new TestDaemon);
  daemon->socket_ = directory + "/kvtierd.sock";
  daemon->log_file_ = directory + "/kvtierd.log";
  const std::string config_file = directory + "/kvtierd.yaml";
  std::ofstream(config_file) << config;

  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) return absl::InternalError("pipe2");
  const absl::Cleanup close_reader = [&ready] { close(ready[0]); };
  ChildProcess::Options options{
      .arguments = {ProgramPath("kvtierd"), "--config", config_file, "--socket", daemon->socket_,
                    "--ready-fd", absl::StrCat(ready[1]),
                    // Tests that damage blocks find out for themselves; those about it turn it on.
                    "--set", "limits.scrub_bytes_per_second=0"},
      .log_file = daemon->log_file_,
      .talk = false,
      .inherit_fd = ready[1]};
  options.arguments.insert(options.arguments.end(), more_arguments.begin(), more_arguments.end());
  absl::StatusOr<std::unique_ptr<ChildProcess>> process = ChildProcess::Start(options);
  close(ready[1]);
  if (!process.ok()) return process.status();
  daemon->process_ = *std::move(process);
  pollfd waits{.fd = ready[0], .events = POLLIN, .revents = 0};
  char byte = 0;
  const bool is_ready = poll(&waits, 1, static_cast<int>(absl::ToInt64Milliseconds(kSoon))) == 1 &&
                        read(ready[0], &byte, 1) == 1;
  if (!is_ready) {
    return absl::UnavailableError(absl::StrCat("kvtierd is not ready; its log:\n", daemon->Log()));
  }
  const auto channel =
      grpc::CreateChannel("unix:" + daemon->socket_, grpc::InsecureChannelCredentials());
  daemon->kv_ = v1::KvCache::NewStub(channel);
  daemon->admin_ = v1::Admin::NewStub(channel);
  return daemon;
}

size_t TestDaemon::SettledFiles() const {
  ProcessFacts facts;
  EXPECT_TRUE(Await([&] {
    facts = Facts();
    return facts.passing_files == 0;
  })) << OpenFiles();
  return facts.open_files;
}

std::string TestDaemon::Log() const { return ReadFile(log_file_); }

absl::Status TestDaemon::Stop() {
  process_->Signal(SIGTERM);
  absl::StatusOr<int> status = process_->Wait(kSoon);
  if (!status.ok()) return status.status();
  if (!WIFEXITED(*status) || WEXITSTATUS(*status) != 0) {
    return absl::InternalError(
        absl::StrCat("kvtierd ended with wait status ", *status, "; its log:\n", Log()));
  }
  for (const char* suffix : {"", wire::kAttachSocketSuffix}) {
    if (std::filesystem::exists(socket_ + suffix))
      return absl::InternalError(absl::StrCat("kvtierd left its socket ", socket_, suffix));
  }
  return absl::OkStatus();
}

v1::StatusReply TestDaemon::Status() {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::StatusRequest request;
  request.mutable_version()->set_major(wire::kProtocolMajor);
  request.mutable_version()->set_minor(wire::kProtocolMinor);
  v1::StatusReply reply;
  const grpc::Status status = admin_->Status(&context, request, &reply);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return reply;
}

v1::PoolsReply TestDaemon::Pools() {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::PoolsReply reply;
  const grpc::Status status = admin_->Pools(&context, {}, &reply);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return reply;
}

int64_t TestDaemon::Metric(absl::string_view name) const {
  const std::string log = Log();
  const size_t at = log.find(" port=");
  if (at == std::string::npos) return -1;
  const std::string page = HttpGet(std::atoi(log.c_str() + at + 6), "/metrics");
  for (const absl::string_view line : absl::StrSplit(page, '\n')) {
    double value = 0;
    if (absl::StartsWith(line, absl::StrCat(name, " ")) &&
        absl::SimpleAtod(line.substr(name.size() + 1), &value)) {
      return static_cast<int64_t>(value);
    }
  }
  return -1;
}

uint64_t TestDaemon::UsedBytes() {
  const v1::PoolsReply pools = Pools();
  uint64_t used = 0;
  for (const v1::PoolsReply::Pool& pool : pools.pools()) used += pool.used_bytes();
  return used;
}

DaemonTest::DaemonTest() : directory_(std::make_unique<TempDir>()) {
  // What a child of the test leaves running is then found among its own children.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
}

void DaemonTest::TearDown() {
  const std::string path = directory();
  if (daemon_ != nullptr) {
    // One that the test killed leaves its socket; the next one would replace it.
    const bool killed = daemon_->process().ended();
    EXPECT_THAT(killed ? absl::OkStatus() : daemon_->Stop(), IsOk());
    if (HasFailure()) std::cerr << "--- log of kvtierd\n" << daemon_->Log() << "---\n";
    daemon_.reset();
  }
  // Memory of pools has no name anywhere: it lives exactly as long as a process that has it.
  std::vector<std::string> left;
  for (const pid_t pid : ChildPids())
    left.push_back(absl::StrCat(pid, " ", ReadFile(absl::StrCat("/proc/", pid, "/comm"))));
  EXPECT_TRUE(left.empty()) << "processes left behind: " << absl::StrJoin(left, ", ");
  directory_.reset();
  EXPECT_FALSE(std::filesystem::exists(path)) << path;
}

void DaemonTest::StartDaemon(const std::string& config,
                             const std::vector<std::string>& more_arguments) {
  absl::StatusOr<std::unique_ptr<TestDaemon>> started =
      TestDaemon::Start(directory(), config, more_arguments);
  ASSERT_THAT(started, IsOk());
  daemon_ = *std::move(started);
}

ClientOptions DaemonTest::Options(const std::string& name) const {
  ClientOptions options;
  options.socket = socket();
  options.name = name;
  // Generous: what is not about a lost daemon must not take a slow machine for one.
  options.unavailable_after = absl::Seconds(10);
  return options;
}

std::unique_ptr<Client> DaemonTest::Connect(const ClientOptions& options) {
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(options);
  EXPECT_THAT(client, IsOk());
  return client.ok() ? *std::move(client) : nullptr;
}

void ClientTest::Start(const std::string& config) {
  StartDaemon(config);
  ASSERT_NE(daemon_, nullptr);
  client_ = Connect();
  ASSERT_NE(client_, nullptr);
  ASSERT_OK_AND_ASSIGN(model_, client_->RegisterModel(UnequalModel()));
}

void ClientTest::TearDown() {
  client_.reset();
  DaemonTest::TearDown();
}

}  // namespace kvtier::test_support
