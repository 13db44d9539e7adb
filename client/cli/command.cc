#include "client/cli/command.h"

#include <sys/un.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/interrupt.h"
#include "kvtier/client.h"
#include "tiering/base/bytes.h"

namespace kvtier::cli {
namespace {

// Types of payload that give an error an exit code of its own.
constexpr const char* kUsagePayload = "kvtier.cli/usage";
constexpr const char* kNoDaemonPayload = "kvtier.cli/no-daemon";
constexpr int kSignalExitBase = 128;  // what a shell reports for a program that a signal ended
constexpr size_t kSocketPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  if (const int signal = CaughtSignal(); signal != 0) return kSignalExitBase + signal;
  if (status.GetPayload(kUsagePayload)) return kExitUsage;
  return IsNoDaemonError(status) ? kExitUnavailable : kExitFailed;
}

absl::Status Marked(absl::Status status, const char* payload) {
  status.SetPayload(payload, absl::Cord());
  return status;
}

}  // namespace

absl::Status UsageError(std::string_view message) {
  return Marked(absl::InvalidArgumentError({message.data(), message.size()}), kUsagePayload);
}

absl::Status NoDaemonError(absl::Status status) {
  return Marked(std::move(status), kNoDaemonPayload);
}

bool IsNoDaemonError(const absl::Status& status) {
  return status.GetPayload(kNoDaemonPayload).has_value();
}

void PrintError(std::string_view message) {
  std::string line(message);
  // One line, whatever a message from elsewhere contains.
  for (char& c : line) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) c = ' ';
  }
  std::fprintf(stderr, "kvtier: %s\n", line.c_str());
}

int Finish(absl::Status status) {
  errno = 0;
  const bool flushed = std::fflush(stdout) == 0;
  const int error = errno;
  // An earlier flush, of a full buffer, may have failed where the last one did not.
  if ((!flushed || std::ferror(stdout) != 0) && status.ok()) {
    status = absl::DataLossError(absl::StrCat("cannot write to the standard output",
                                              error == 0 ? "" : ": ",
                                              error == 0 ? "" : std::strerror(error)));
  }
  if (!status.ok()) {
    PrintError(status.message().empty()
                   ? absl::StatusCodeToString(status.code())
                   : std::string_view(status.message().data(), status.message().size()));
  }
  return ExitCodeOf(status);
}

void AddCommonOptions(CLI::App& command, CommonOptions& options) {
  command
      .add_option(
          "--socket", options.socket,
          "The daemon's socket (default: $KVTIER_SOCKET, else "
          "$XDG_RUNTIME_DIR/kvtier/kvtierd.sock,\nelse /run/kvtier/kvtierd.sock; here and now " +
              DefaultSocketPath() + ")")
      ->type_name("PATH");
  command.add_flag("--json", options.json, "Print JSON (docs/cli.md lists the fields)");
  command.parse_complete_callback([&command, &options] {
    if (command.count("--socket") == 0) options.socket = DefaultSocketPath();
    if (!options.socket.empty() && options.socket.size() <= kSocketPathBytesMax) return;
    throw CLI::ValidationError(absl::StrCat("the path of the socket has ", options.socket.size(),
                                            " bytes; a Unix socket's has 1 to ",
                                            kSocketPathBytesMax));
  });
}

void SetAction(CLI::App& command, int& exit_code, std::function<absl::Status()> run) {
  command.final_callback([&exit_code, run = std::move(run)] { exit_code = Finish(run()); });
}

void PrintJson(const Json& json) {
  std::puts(json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

std::string SizeText(uint64_t bytes) { return FormatBytes(Bytes(static_cast<int64_t>(bytes))); }

std::string TimeText(absl::Duration time) {
  const int64_t ms = absl::ToInt64Milliseconds(time);
  const int64_t s = ms / 1000;
  if (s < 1) return absl::StrFormat("%d ms", ms);
  if (s < 60) return absl::StrFormat("%d s", s);
  if (s < 3600) return absl::StrFormat("%d min %d s", s / 60, s % 60);
  if (s < 86'400) return absl::StrFormat("%d h %d min", s / 3600, s / 60 % 60);
  return absl::StrFormat("%d d %d h", s / 86'400, s / 3600 % 24);
}

std::string HexText(std::string_view bytes) {
  return absl::BytesToHexString({bytes.data(), bytes.size()});
}

std::string HexText(const wire::Sha256Digest& digest) {
  return HexText(std::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
}

}  // namespace kvtier::cli
