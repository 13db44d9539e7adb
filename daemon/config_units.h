// Numbers with units as they are written in the configuration: "64MiB", "500ms", "0600".
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace kvtier {

// Digits, then nothing, B, KiB, MiB, GiB or TiB. None for anything else and beyond 2^63 - 1 bytes.
std::optional<uint64_t> ParseSize(absl::string_view text);
// Digits, then nothing (milliseconds), ms, s, m or h. None for anything else and beyond 2^63 - 1.
std::optional<uint64_t> ParseDuration(absl::string_view text);
// Octal digits with or without a leading 0 or 0o.
std::optional<uint64_t> ParseOctal(absl::string_view text);

// The shortest exact spelling that the parsers read back: "64MiB", "65537", "30s", "1500ms".
std::string SizeText(uint64_t bytes);
std::string DurationText(uint64_t milliseconds);

// For an error: what a file says, cut off after 80 bytes.
std::string Shortened(absl::string_view text);

}  // namespace kvtier
