#include "client/cli/command.h"

#include <unistd.h>

#include <cstdio>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kvtier/client.h"
#include "tiering/base/bytes.h"

namespace kvtier::cli {
namespace {

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  return absl::IsUnavailable(status) ? kExitUnavailable : kExitFailed;
}

void PrintError(const absl::Status& status) {
  std::string line(status.message());
  if (line.empty()) line = absl::StatusCodeToString(status.code());
  // One line, whatever a message from elsewhere contains.
  for (char& c : line) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) c = ' ';
  }
  std::fprintf(stderr, "kvtier: %s\n", line.c_str());
}

}  // namespace

void AddCommonOptions(CLI::App& command, CommonOptions& options) {
  command.add_option(
      "--socket", options.socket,
      "The daemon's socket (default: $KVTIER_SOCKET, else " + DefaultSocketPath() + ")");
  command.add_flag("--json", options.json, "Print JSON (docs/cli.md lists the fields)");
  command.parse_complete_callback([&options] {
    if (options.socket.empty()) options.socket = DefaultSocketPath();
  });
}

void SetAction(CLI::App& command, int& exit_code, std::function<absl::Status()> run) {
  command.final_callback([&exit_code, run = std::move(run)] {
    absl::Status status = run();
    if (std::fflush(stdout) != 0 && status.ok()) {
      status = absl::DataLossError("cannot write to the standard output");
    }
    if (!status.ok()) PrintError(status);
    exit_code = ExitCodeOf(status);
  });
}

void PrintJson(const Json& json) {
  std::puts(json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

absl::StatusOr<uint64_t> ParseSize(const std::string& text) {
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[digits])))
    ++digits;
  const std::string unit = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text.substr(digits)));
  static constexpr const char* kUnits[] = {"", "kib", "mib", "gib", "tib"};
  uint64_t number = 0;
  if (digits > 0 && absl::SimpleAtoi(text.substr(0, digits), &number)) {
    for (int i = 0; i < 5; ++i) {
      const bool named = unit == kUnits[i] || (i == 0 && unit == "b");
      if (named && number <= (~uint64_t{0} >> 1 >> (10 * i))) return number << (10 * i);
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", text, "\" is no size: write a number of bytes, or one with KiB, MiB, GiB or TiB"));
}

CLI::Option* AddSizeOption(CLI::App& command, const std::string& name, uint64_t& bytes,
                           uint64_t min, uint64_t max, const std::string& description) {
  return command
      .add_option_function<std::string>(
          name,
          [&bytes, min, max, name](const std::string& text) {
            const absl::StatusOr<uint64_t> size = ParseSize(text);
            if (!size.ok()) throw CLI::ValidationError(name, std::string(size.status().message()));
            if (*size < min || *size > max) {
              throw CLI::ValidationError(name, absl::StrCat(text, " is not within ", SizeText(min),
                                                            " to ", SizeText(max)));
            }
            bytes = *size;
          },
          description + " (default " + SizeText(bytes) + ")")
      ->type_name("SIZE");
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

}  // namespace kvtier::cli
