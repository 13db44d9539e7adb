// `kvtier status`.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cli/admin_client.h"
#include "client/cli/command.h"
#include "client/cli/option_values.h"

namespace kvtier::cli {
namespace {

constexpr absl::Duration kAnswerTimeout = absl::Seconds(10);
constexpr absl::Duration kRetryPeriod = absl::Milliseconds(50);

Json StatusJson(const CommonOptions& options, const v1::StatusReply& status,
                const v1::TopologyReply& topology) {
  Json nodes = Json::array();
  for (const auto& node : topology.nodes()) {
    nodes.push_back({{"os_index", node.os_index()},
                     {"memory_bytes", node.memory_bytes()},
                     {"cores", node.cores()},
                     {"is_gpu_memory", node.is_gpu_memory()}});
  }
  Json gpus = Json::array();
  for (const auto& gpu : topology.gpus()) {
    gpus.push_back({{"pci_bus_id", gpu.pci_bus_id()}, {"numa_node", gpu.numa_node()}});
  }
  // Sorted, so that two outputs can be compared.
  const std::map<std::string, uint64_t> counters(status.counters().begin(),
                                                 status.counters().end());
  return {
      {"socket", options.socket},
      {"daemon_version", status.daemon_version()},
      {"protocol_version", absl::StrCat(status.version().major(), ".", status.version().minor())},
      {"daemon_epoch", status.daemon_epoch()},
      {"pid", status.pid()},
      {"uptime_ms", status.uptime_ms()},
      {"draining", status.draining()},
      {"tenant", status.tenant()},
      {"admin", status.admin()},
      {"policy", status.policy()},
      {"sessions", status.sessions()},
      {"leases", status.leases()},
      {"reservations", status.reservations()},
      {"chunks", status.chunks()},
      {"blocks", status.blocks()},
      {"models", status.models()},
      {"moves_in_flight", status.moves_in_flight()},
      {"devices", status.devices()},
      {"counters", counters},
      {"topology", {{"machine", topology.machine()}, {"nodes", nodes}, {"gpus", gpus}}}};
}

void PrintText(const CommonOptions& options, const v1::StatusReply& status,
               const v1::TopologyReply& topology) {
  const auto line = [](const char* name, const std::string& text) {
    std::printf("%-18s%s\n", name, text.c_str());
  };
  line("daemon",
       absl::StrCat("kvtierd ", status.daemon_version(), ", pid ", status.pid(), ", up ",
                    TimeText(absl::Milliseconds(static_cast<int64_t>(status.uptime_ms()))),
                    status.draining() ? ", draining" : ""));
  line("socket", options.socket);
  line("tenant",
       absl::StrCat(status.tenant(), status.admin() ? " (admin: numbers of all tenants)" : ""));
  line("policy", status.policy());
  line("devices", status.devices());
  uint64_t memory_bytes = 0;
  uint64_t cores = 0;
  for (const auto& node : topology.nodes()) {
    memory_bytes += node.memory_bytes();
    cores += node.cores();
  }
  line("machine", absl::StrCat(topology.machine(), topology.machine().empty() ? "" : ", ",
                               topology.nodes_size(), " memory nodes, ", SizeText(memory_bytes),
                               ", ", cores, " cores"));
  line("sessions", absl::StrCat(status.sessions()));
  line("models", absl::StrCat(status.models()));
  line("chunks", absl::StrCat(status.chunks(), " (", status.blocks(), " blocks)"));
  line("leases", absl::StrCat(status.leases()));
  line("reservations", absl::StrCat(status.reservations()));
  line("moves in flight", absl::StrCat(status.moves_in_flight()));
  const std::map<std::string, uint64_t> counters(status.counters().begin(),
                                                 status.counters().end());
  for (const auto& [name, value] : counters)
    std::printf("  %-32s%llu\n", name.c_str(), static_cast<unsigned long long>(value));
}

// A client of a daemon that has answered with its status.
absl::StatusOr<AdminClient> ReadStatus(const CommonOptions& options, absl::Duration timeout,
                                       v1::StatusReply& status) {
  auto admin = AdminClient::Connect(options.socket);
  if (!admin.ok()) return admin;
  v1::StatusRequest request;
  *request.mutable_version() = ProtocolVersion();
  absl::Status error = admin->Call(&v1::Admin::Stub::Status, request, status, timeout);
  if (!error.ok()) return error;
  return admin;
}

// The same, for a daemon that may not be there yet. What no time mends (a user of no tenant,
// another version) ends it at once.
absl::StatusOr<AdminClient> AwaitStatus(const CommonOptions& options, absl::Duration wait,
                                        v1::StatusReply& status) {
  const absl::Time deadline = absl::Now() + wait;
  for (;;) {
    const absl::Duration left = deadline - absl::Now();
    auto admin = ReadStatus(options, std::clamp(left, kRetryPeriod, kAnswerTimeout), status);
    const bool full = absl::IsResourceExhausted(admin.status());  // of connections, for now
    if (!full && !absl::IsUnavailable(admin.status())) return admin;
    if (left <= absl::ZeroDuration()) {
      if (full) return admin;
      return NoDaemonError(absl::UnavailableError(absl::StrCat(
          "nobody answered within ", absl::FormatDuration(wait), ": ", admin.status().message())));
    }
    absl::SleepFor(std::min(left, kRetryPeriod));
  }
}

absl::Status RunStatus(const CommonOptions& options, absl::Duration wait) {
  v1::StatusReply status;
  auto admin = wait > absl::ZeroDuration() ? AwaitStatus(options, wait, status)
                                           : ReadStatus(options, kAnswerTimeout, status);
  if (!admin.ok()) return admin.status();
  v1::TopologyReply topology;
  if (absl::Status error = admin->Call(&v1::Admin::Stub::Topology, v1::TopologyRequest(), topology);
      !error.ok()) {
    return error;
  }
  if (options.json) {
    PrintJson(StatusJson(options, status, topology));
  } else {
    PrintText(options, status, topology);
  }
  return absl::OkStatus();
}

}  // namespace

void AddStatusCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<CommonOptions>();
  CLI::App* command = app.add_subcommand("status", "Shows what the daemon is and holds");
  AddCommonOptions(*command, *options);
  auto wait = std::make_shared<absl::Duration>();
  AddTimeOption(
      *command, "--wait", *wait, absl::ZeroDuration(), absl::Hours(24),
      "Wait this long for a daemon to answer, up to 24h: 10 (seconds), 10s, 500ms (default: "
      "not at all)");
  SetAction(*command, exit_code, [options, wait] { return RunStatus(*options, *wait); });
}

}  // namespace kvtier::cli
