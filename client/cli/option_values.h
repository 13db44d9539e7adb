// Values of options: read in one way by all subcommands, with errors that say what is allowed.
//
// The Add... functions check while the command line is parsed, before anything else happens; what
// is not allowed is wrong usage. `value` outlives the parse.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kvtier::cli {

// "64MiB" and the like. INVALID_ARGUMENT with the text otherwise.
absl::StatusOr<uint64_t> ParseSize(const std::string& text);
// "10", "2.5" (seconds), "10s", "500ms", "1m30s". INVALID_ARGUMENT with the text otherwise.
absl::StatusOr<absl::Duration> ParseTime(const std::string& text);
// Whether `text` is UTF-8 of 1 to `bytes_max` bytes; the error calls it `what`.
absl::Status CheckText(std::string_view what, std::string_view text, size_t bytes_max);

// Within [min, max]; the description gets the default, which `value` has, and the range.
CLI::Option* AddSizeOption(CLI::App& command, const std::string& name, uint64_t& value,
                           uint64_t min, uint64_t max, const std::string& description);
CLI::Option* AddCountOption(CLI::App& command, const std::string& name, uint64_t& value,
                            uint64_t min, uint64_t max, const std::string& description);
// The description has to say what the default is.
CLI::Option* AddTimeOption(CLI::App& command, const std::string& name, absl::Duration& value,
                           absl::Duration min, absl::Duration max, const std::string& description);
// As CheckText.
CLI::Option* AddTextOption(CLI::App& command, const std::string& name, std::string& value,
                           size_t bytes_max, const std::string& description);

}  // namespace kvtier::cli
