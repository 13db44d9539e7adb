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

// Makes `run` the command's action: its status becomes the exit code, and its error one line on
// stderr.
void SetAction(CLI::App& command, int& exit_code, std::function<absl::Status()> run);

// Prints to stdout, with anything that is not UTF-8 replaced.
void PrintJson(const Json& json);

// A size option: "4096", "256KiB", "1GiB", within [min, max].
CLI::Option* AddSizeOption(CLI::App& command, const std::string& name, uint64_t& bytes,
                           uint64_t min, uint64_t max, const std::string& description);
// "64MiB" and the like. INVALID_ARGUMENT with the text otherwise.
absl::StatusOr<uint64_t> ParseSize(const std::string& text);

// "1.50 GiB".
std::string SizeText(uint64_t bytes);
// "3 d 4 h", "12 min 5 s", "850 ms".
std::string TimeText(absl::Duration time);
std::string HexText(std::string_view bytes);

// Each adds its subcommand; `exit_code` outlives the parse.
void AddStatusCommand(CLI::App& app, int& exit_code);
void AddPoolsCommand(CLI::App& app, int& exit_code);
void AddBlocksCommand(CLI::App& app, int& exit_code);
void AddPutCommand(CLI::App& app, int& exit_code);
void AddGetCommand(CLI::App& app, int& exit_code);
void AddBenchCommand(CLI::App& app, int& exit_code);
void AddDrainCommand(CLI::App& app, int& exit_code);

}  // namespace kvtier::cli
