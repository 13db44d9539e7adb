// kvtierd: owns KV blocks across memory tiers and serves them to inference workers on this machine.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/attach_server.h"
#include "daemon/config_check.h"
#include "daemon/config_limits.h"
#include "daemon/config_loader.h"
#include "daemon/daemon.h"
#include "daemon/daemon_version.h"
#include "daemon/log.h"
#include "daemon/unix_listener.h"
#include "proto/wire/version.h"
#include "tiering/host/topology_discovery.h"

namespace {

// Without this a daemon that is started with a standard descriptor closed would get a pool's memory
// under that number, and its log lines would go there. Done before the libraries initialise
// themselves, as gRPC's opens an eventfd then; so nothing but system calls, without a sanitizer's
// help.
__attribute__((no_sanitize("address", "thread", "undefined"))) void OccupyStandardDescriptors() {
  long fd = 0;
  do {
    fd = syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  // There may be nobody to tell.
  if (fd < 0) _exit(1);
  syscall(SYS_close, fd);
}
__attribute__((section(".preinit_array"),
               used)) void (*const occupy_standard_descriptors)() = OccupyStandardDescriptors;

using namespace kvtier;

// What a usage or configuration error and a failed start exit with.
constexpr int kExitUsage = 2;
constexpr int kExitFailed = 1;
// Of SIGTERM and SIGINT; service managers give 90 s and more before they kill.
constexpr int kDrainSecondsDefault = 10;
constexpr std::chrono::seconds kRepeatedSignal(1);

struct Flags {
  // None where the flag was not given; an empty value is an error, never a default.
  std::optional<std::string> config;
  std::optional<std::string> check_config;
  std::optional<std::string> socket;
  std::vector<std::string> set;
  bool print_config = false;
  bool show_salts = false;
  bool config_help = false;
  int ready_fd = -1;
  int drain_seconds = kDrainSecondsDefault;
};

int Fail(const absl::Status& status, int code) {
  std::fprintf(stderr, "kvtierd: %s\n", std::string(status.message()).c_str());
  return code;
}

absl::StatusOr<v1::Config> Load(const Flags& flags) {
  for (const auto& [name, path] : {std::pair("--config", flags.config),
                                   {"--check-config", flags.check_config},
                                   {"--socket", flags.socket}}) {
    if (path && path->empty())
      return absl::InvalidArgumentError(absl::StrCat(name, ": the path is empty"));
  }
  const std::optional<std::string>& file = flags.check_config ? flags.check_config : flags.config;
  absl::StatusOr<v1::Config> config =
      file ? LoadConfigFile(*file, flags.set) : LoadConfig("", "defaults", flags.set);
  if (config.ok() && flags.socket) config->mutable_listen()->set_socket(*flags.socket);
  return config;
}

// The file is good; what is said beside that is the same as at a start, and what may be wrong with
// it on this machine.
int TellChecked(const std::string& file, const v1::Config& config) {
  std::vector<std::string> warnings = ConfigWarnings(config);
  const absl::StatusOr<Topology> topology = DiscoverTopology();
  if (topology.ok()) {
    for (std::string& warning : NodeWarnings(config, *topology))
      warnings.push_back(std::move(warning));
  } else {
    warnings.push_back(
        absl::StrCat("pools[].numa_node is not checked: ", topology.status().message()));
  }
  for (const std::string& warning : warnings)
    std::fprintf(stderr, "%s: warning: %s\n", file.c_str(), warning.c_str());
  std::printf("%s: ok\n", file.c_str());
  return 0;
}

// Signals that end the daemon; blocked in every thread and waited for in one.
sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  // nohup(1) and the like ask to be spared this one, and blocking it would undo that.
  struct sigaction hang_up {};
  if (sigaction(SIGHUP, nullptr, &hang_up) != 0 || hang_up.sa_handler != SIG_IGN)
    sigaddset(&signals, SIGHUP);
  return signals;
}

// The first signal drains. One that comes within a second is the same wish told twice (timeout(1)
// signals its child and then its group); a later one ends the process as it is.
void ServeSignals(const sigset_t& signals, const std::vector<SocketFile>& sockets,
                  DrainState& drain) {
  int received = 0;
  sigwait(&signals, &received);
  const auto first = std::chrono::steady_clock::now();
  log::Info("signal received: draining", {{"signal", received}});
  drain.RequestStop(DrainState::Stop::kWhenDrained);
  do {
    sigwait(&signals, &received);
  } while (std::chrono::steady_clock::now() - first < kRepeatedSignal);
  log::Warn("second signal received: exiting at once", {{"signal", received}});
  for (const SocketFile& socket : sockets) socket.Remove();
  _exit(kExitFailed);
}

void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) log::Warn("cannot raise the limit of open files");
}

void TellReady(const Flags& flags, const Daemon& daemon) {
  std::fprintf(stderr, "kvtierd: ready socket=%s\n", daemon.config().listen().socket().c_str());
  std::fflush(stderr);
  if (flags.ready_fd < 0) return;
  if (write(flags.ready_fd, "r", 1) != 1) log::Warn("nobody reads the descriptor of --ready-fd");
  close(flags.ready_fd);
}

int Run(const Flags& flags, v1::Config config) {
  log::Start(config.log());
  umask(077);
  signal(SIGPIPE, SIG_IGN);
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  RaiseFileLimit();
  for (const std::string& warning : ConfigWarnings(config))
    log::Warn("configuration", {{"warning", warning}});

  absl::StatusOr<std::unique_ptr<Daemon>> started = Daemon::Create(std::move(config));
  if (!started.ok()) return Fail(started.status(), kExitFailed);
  std::unique_ptr<Daemon> daemon = *std::move(started);
  // Never joined: it waits for signals to the end.
  std::vector<SocketFile> sockets = {SocketFile::Of(daemon->config().listen().socket())};
  if (daemon->config().listen().shared_memory())
    sockets.push_back(SocketFile::Of(AttachSocketOf(daemon->config())));
  std::thread([signals, sockets = std::move(sockets), drain = daemon->drain_state()] {
    ServeSignals(signals, sockets, *drain);
  }).detach();
  log::Info("serving", {{"version", kDaemonVersion},
                        {"socket", daemon->config().listen().socket()},
                        {"tenants", daemon->config().tenants_size()},
                        {"pools", daemon->config().pools_size()}});
  TellReady(flags, *daemon);

  // Who asked for a stop by call has waited as long as it wanted to.
  const bool now = daemon->drain_state()->AwaitStopRequest() == DrainState::Stop::kNow;
  const bool drained =
      daemon->Drain(now ? absl::ZeroDuration() : absl::Seconds(flags.drain_seconds));
  log::Info(drained ? "drained" : "not drained in time: leases or reservations are left");
  daemon.reset();
  log::Info("stopped");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app(
      "kvtierd: owns KV blocks across memory tiers and serves them to inference workers on this "
      "machine.\n"
      "Without --config it starts with its embedded defaults.");
  app.set_version_flag("--version", absl::StrCat("kvtierd ", kDaemonVersion, ", protocol ",
                                                 wire::kProtocolMajor, ".", wire::kProtocolMinor));
  std::string config_path, check_path, socket_path;
  const CLI::Option* config_option =
      app.add_option("--config", config_path, "YAML configuration file");
  const CLI::Option* socket_option =
      app.add_option("--socket", socket_path, "Unix socket path; overrides listen.socket");
  app.add_option("--set", flags.set, "override one field: path.of.field=value; may be repeated")
      ->allow_extra_args(false);
  const CLI::Option* check_option =
      app.add_option("--check-config", check_path,
                     "check a file, say `ok` or what is wrong, and exit")
          ->excludes("--config");
  CLI::Option* print_option =
      app.add_flag("--print-config", flags.print_config,
                   "print the effective configuration as YAML, without salts, and exit");
  app.add_flag("--show-salts", flags.show_salts, "with --print-config: print tenants' salts")
      ->needs(print_option);
  app.add_flag("--config-help", flags.config_help,
               "print every field with default and allowed range and exit");
  app.add_option("--ready-fd", flags.ready_fd,
                 "write a byte to this descriptor once serving, and close it")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--drain-seconds", flags.drain_seconds,
                 absl::StrCat("how long SIGTERM waits for leases and reservations; default ",
                              kDrainSecondsDefault))
      ->check(CLI::Range(0, 3600));
  app.footer(
      "SIGTERM, SIGINT and SIGHUP drain and exit with 0; a second one, a second later, exits at "
      "once.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  if (flags.config_help) {
    std::fputs(ConfigHelp().c_str(), stdout);
    return 0;
  }
  if (config_option->count() > 0) flags.config = config_path;
  if (check_option->count() > 0) flags.check_config = check_path;
  if (socket_option->count() > 0) flags.socket = socket_path;
  absl::StatusOr<v1::Config> config = Load(flags);
  if (!config.ok()) return Fail(config.status(), kExitUsage);
  if (flags.print_config) {
    std::fputs(ConfigToYaml(*config, flags.show_salts ? Salts::kShow : Salts::kHide).c_str(),
               stdout);
    return 0;
  }
  if (flags.check_config) return TellChecked(*flags.check_config, *config);
  return Run(flags, *std::move(config));
}
