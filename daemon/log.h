// Structured logs on standard error: an event and key=value fields, as text or as one JSON object a
// line.
//
// What the levels mean: error: kvtierd cannot do its job; warn: somebody should look, it goes on;
// info: who came and went, once per session or rarer; debug: once per call; trace: within calls.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "kvtier/v1/config.pb.h"

namespace kvtier::log {

enum class Level { kTrace, kDebug, kInfo, kWarn, kError };

struct Field {
  absl::string_view key;
  std::string value;
  bool is_text = true;  // else a number, true or false, which JSON has without quotes

  template <typename T, std::enable_if_t<!std::is_convertible_v<T, absl::string_view>, int> = 0>
  Field(absl::string_view key_in, const T& number)
      : key(key_in), value(absl::StrCat(number)), is_text(!std::is_integral_v<T>) {}
  Field(absl::string_view key_in, bool flag)
      : key(key_in), value(flag ? "true" : "false"), is_text(false) {}
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

// How many lines may be written on behalf of one client: kLinesAtOnce, then kLinesPerSecond.
// Beyond, lines are left out for a second or so and counted. Not thread-safe.
class LineBudget {
 public:
  static constexpr int kLinesAtOnce = 20;
  static constexpr int kLinesPerSecond = 10;

  // Whether a line may be written at `now`. When one may be again after some were left out,
  // `suppressed` is set to how many those were, and to 0 otherwise.
  bool Take(absl::Time now, uint64_t& suppressed);

 private:
  double lines_ = kLinesAtOnce;
  absl::Time filled_ = absl::InfinitePast();
  uint64_t left_out_ = 0;
};

// Info with a budget for each tenant, for what a tenant can cause as often as it likes. What was
// left out is told by a line "lines left out" before the next one.
void TenantInfo(absl::string_view tenant, absl::string_view event, Fields fields);

// One line without its end, as Write makes it; for tests.
std::string FormatLine(bool json, absl::string_view time, Level level, absl::string_view event,
                       Fields fields);

}  // namespace kvtier::log
