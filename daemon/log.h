// Structured logs on standard error: an event and key=value fields, as text or as one JSON object a
// line.
//
// What the levels mean: error: kvtierd cannot do its job; warn: somebody should look, it goes on;
// info: who came and went, once per session or rarer; debug: once per call; trace: within calls.
#pragma once

#include <initializer_list>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kvtier/v1/config.pb.h"

namespace kvtier::log {

enum class Level { kTrace, kDebug, kInfo, kWarn, kError };

struct Field {
  absl::string_view key;
  std::string value;

  template <typename T, std::enable_if_t<!std::is_convertible_v<T, absl::string_view>, int> = 0>
  Field(absl::string_view key_in, const T& number) : key(key_in), value(absl::StrCat(number)) {}
  Field(absl::string_view key_in, absl::string_view text) : key(key_in), value(text) {}
  Field(absl::string_view key_in, const char* text) : key(key_in), value(text) {}
  Field(absl::string_view key_in, const std::string& text) : key(key_in), value(text) {}
  Field(absl::string_view key_in, const absl::Status& status)
      : key(key_in), value(status.ToString()) {}
};
using Fields = std::initializer_list<Field>;

// Level and format of the whole process; text at info until called. gRPC's own messages go the same
// way.
void Start(const v1::LogConfig& config);

// Thread-safe. `event` is a constant phrase to search for; what varies is in the fields.
void Write(Level level, absl::string_view event, Fields fields = {});
inline void Debug(absl::string_view event, Fields fields = {}) {
  Write(Level::kDebug, event, fields);
}
inline void Info(absl::string_view event, Fields fields = {}) {
  Write(Level::kInfo, event, fields);
}
inline void Warn(absl::string_view event, Fields fields = {}) {
  Write(Level::kWarn, event, fields);
}
inline void Error(absl::string_view event, Fields fields = {}) {
  Write(Level::kError, event, fields);
}

// One line without its end, as Write makes it; for tests.
std::string FormatLine(bool json, absl::string_view time, Level level, absl::string_view event,
                       Fields fields);

}  // namespace kvtier::log
