// Default and allowed range of every configuration field, in one table: the loader applies it,
// `kvtierd
// --config-help` prints it, and docs/OPERATING.md is tested against it.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kvtier {

enum class FieldKind : uint8_t {
  kNumber,
  kBytes,         // "64MiB"
  kMilliseconds,  // "30s"
  kOctal,         // "0600"
  kFraction,      // a decimal number
  kFlag,          // true or false
  kText,          // minimum and maximum are lengths in bytes
  kChoice,        // one of `choices`
  kList,          // minimum and maximum are entry counts
};

struct FieldLimit {
  // As in an error, with "[]" for any list entry and "{}" for any map value:
  // "pools[].budget_bytes".
  const char* path;
  FieldKind kind;
  int64_t minimum = 0;
  int64_t maximum = 0;
  int64_t default_number = 0;  // of kNumber, kBytes, kMilliseconds and kFlag
  double fraction_minimum = 0;
  double fraction_maximum = 0;
  double default_fraction = 0;
  const char* choices = "";       // "hbm|dram"
  const char* default_text = "";  // of kText and kChoice, or what the default is in words
  const char* help = "";
};

// Every field of config.proto, in its order.
absl::Span<const FieldLimit> ConfigLimits();

// Null when there is no such field.
const FieldLimit* FindLimit(absl::string_view table_path);

// "64KiB to 16GiB", "1 to 64", "hbm or dram", "up to 64 bytes".
std::string RangeText(const FieldLimit& limit);
// "64MiB", "30s", "true", "lru", "required".
std::string DefaultText(const FieldLimit& limit);
// The whole table as text, one field a line.
std::string ConfigHelp();

}  // namespace kvtier
