// `kvtier drain`.
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/cli/admin_client.h"
#include "client/cli/command.h"
#include "client/cli/option_values.h"

namespace kvtier::cli {
namespace {

struct DrainOptions {
  CommonOptions common;
  absl::Duration timeout = absl::Seconds(30);
  bool exit = false;
};

absl::Status RunDrain(const DrainOptions& options) {
  auto admin = AdminClient::Connect(options.common.socket);
  if (!admin.ok()) return admin.status();
  const absl::Duration timeout = options.timeout;
  v1::DrainRequest request;
  request.set_deadline_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(timeout)));
  request.set_exit(options.exit);
  v1::DrainReply reply;
  absl::Status status =
      admin->Call(&v1::Admin::Stub::Drain, request, reply, timeout + absl::Seconds(10));
  if (!status.ok()) return status;
  if (options.common.json) {
    PrintJson({{"drained", reply.drained()},
               {"leases_left", reply.leases_left()},
               {"reservations_left", reply.reservations_left()},
               {"exit", options.exit}});
  } else if (reply.drained()) {
    std::puts(options.exit ? "drained; kvtierd ends"
                           : "drained; kvtierd refuses new work until it is restarted");
  }
  if (reply.drained()) return absl::OkStatus();
  return absl::DeadlineExceededError(
      absl::StrCat("not drained within ", absl::FormatDuration(timeout), ": ", reply.leases_left(),
                   " leases and ", reply.reservations_left(),
                   " reservations are left; they end when their holders release them or end"));
}

}  // namespace

void AddDrainCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<DrainOptions>();
  CLI::App* command = app.add_subcommand(
      "drain", "Makes the daemon refuse new work and waits until leases and reservations ended");
  AddCommonOptions(*command, options->common);
  AddTimeOption(*command, "--timeout", options->timeout, absl::Milliseconds(1), absl::Hours(1),
                "How long to wait, 1ms to 1h: 10 (seconds), 10s, 500ms (default 30s)");
  command->add_flag("--exit", options->exit, "Then end the daemon");
  command->footer(
      "Needs a tenant with admin: true. Exit code 1 if leases or reservations are left; the daemon "
      "goes on draining.");
  SetAction(*command, exit_code, [options] { return RunDrain(*options); });
}

}  // namespace kvtier::cli
