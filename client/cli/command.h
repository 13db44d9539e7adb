// What the subcommands of `kvtier` have in common.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/wire/sha256.h"

namespace kvtier::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnavailable = 3;

using Json = nlohmann::ordered_json;

// Options of every subcommand.
struct CommonOptions {
  std::string socket;
  bool json = false;
};

// Adds --socket and --json.
void AddCommonOptions(CLI::App& command, CommonOptions& options);

// Exit code 2.
absl::Status UsageError(std::string_view message);
// The same error with exit code 3: for a daemon that could not be reached or never answered.
absl::Status NoDaemonError(absl::Status status);
bool IsNoDaemonError(const absl::Status& status);

// One line on stderr.
void PrintError(std::string_view message);
// What the program ends with: writes out stdout, which may fail as late as now, prints the error,
// if any, and returns the exit code.
int Finish(absl::Status status);

// Makes `run` the command's action: its status becomes the exit code as by Finish().
void SetAction(CLI::App& command, int& exit_code, std::function<absl::Status()> run);

// Prints to stdout, with anything that is not UTF-8 replaced.
void PrintJson(const Json& json);

// "1.50 GiB".
std::string SizeText(uint64_t bytes);
// "3 d 4 h", "12 min 5 s", "850 ms".
std::string TimeText(absl::Duration time);
std::string HexText(std::string_view bytes);
std::string HexText(const wire::Sha256Digest& digest);

// Each adds its subcommand; `exit_code` outlives the parse.
void AddStatusCommand(CLI::App& app, int& exit_code);
void AddPoolsCommand(CLI::App& app, int& exit_code);
void AddBlocksCommand(CLI::App& app, int& exit_code);
void AddPutCommand(CLI::App& app, int& exit_code);
void AddGetCommand(CLI::App& app, int& exit_code);
void AddBenchCommand(CLI::App& app, int& exit_code);
void AddReplayCommand(CLI::App& app, int& exit_code);
void AddSimCommand(CLI::App& app, int& exit_code);
void AddTraceCommand(CLI::App& app, int& exit_code);
void AddBoundCommand(CLI::App& app, int& exit_code);
void AddDrainCommand(CLI::App& app, int& exit_code);
void AddReportCommand(CLI::App& app, int& exit_code);
void AddPlanCommand(CLI::App& app, int& exit_code);

}  // namespace kvtier::cli
