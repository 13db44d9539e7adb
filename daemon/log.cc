#include "daemon/log.h"

#include <grpc/support/log.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tiering/base/mutex.h"

namespace kvtier::log {
namespace {

std::atomic<bool> use_json{false};

constexpr const char* kLevelNames[] = {"trace", "debug", "info", "warn", "error"};

spdlog::level::level_enum SpdlogLevel(Level level) {
  switch (level) {
    case Level::kTrace:
      return spdlog::level::trace;
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarn:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

spdlog::logger& Logger() {
  // Lives as long as the process: threads may log until the very end.
  static spdlog::logger* const logger = [] {
    auto made = std::make_unique<spdlog::logger>("kvtierd",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    made->set_level(spdlog::level::info);
    made->flush_on(spdlog::level::trace);
    return made.release();
  }();
  return *logger;
}

// Clients choose some of the texts: nothing in them may end a line or a string.
std::string Escaped(absl::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      escaped += '\\';
      escaped += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) {
      absl::StrAppendFormat(&escaped, "\\u%04x", static_cast<unsigned char>(c));
    } else {
      escaped += c;
    }
  }
  return escaped;
}

bool IsPlain(absl::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || static_cast<unsigned char>(c) >= 0x7f)
      return false;
  }
  return true;
}

void WriteGrpcMessage(gpr_log_func_args* args) {
  const Level level = args->severity == GPR_LOG_SEVERITY_ERROR ? Level::kWarn : Level::kDebug;
  Write(level, "grpc", {{"message", args->message}, {"file", args->file}, {"line", args->line}});
}

}  // namespace

void Start(const v1::LogConfig& config) {
  use_json = config.format() == "json";
  for (int i = 0; i < 5; ++i) {
    if (config.level() == kLevelNames[i]) Logger().set_level(SpdlogLevel(static_cast<Level>(i)));
  }
  gpr_set_log_function(WriteGrpcMessage);
}

std::string FormatLine(bool json, absl::string_view time, Level level, absl::string_view event,
                       Fields fields) {
  const char* level_name = kLevelNames[static_cast<int>(level)];
  std::string line;
  if (json) {
    line = absl::StrCat("{\"time\":\"", time, "\",\"level\":\"", level_name, "\",\"event\":\"",
                        Escaped(event), "\"");
    for (const Field& field : fields) {
      const char* quote = field.is_text ? "\"" : "";
      absl::StrAppend(&line, ",\"", field.key, "\":", quote, Escaped(field.value), quote);
    }
    return line + "}";
  }
  line = absl::StrCat(time, " ", level_name, " ", event);
  for (const Field& field : fields) {
    if (IsPlain(field.value)) {
      absl::StrAppend(&line, " ", field.key, "=", field.value);
    } else {
      absl::StrAppend(&line, " ", field.key, "=\"", Escaped(field.value), "\"");
    }
  }
  return line;
}

void Write(Level level, absl::string_view event, Fields fields) {
  spdlog::logger& logger = Logger();
  const spdlog::level::level_enum spdlog_level = SpdlogLevel(level);
  if (!logger.should_log(spdlog_level)) return;
  const std::string time =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
  const std::string line = FormatLine(use_json, time, level, event, fields);
  logger.log(spdlog_level, spdlog::string_view_t(line.data(), line.size()));
}

bool LineBudget::Take(absl::Time now, uint64_t& suppressed) {
  suppressed = 0;
  // A clock that is set back adds nothing.
  if (now > filled_) {
    lines_ = std::min<double>(kLinesAtOnce,
                              lines_ + kLinesPerSecond * absl::ToDoubleSeconds(now - filled_));
  }
  filled_ = now;
  // Once lines were left out, it stays so until several may be written: one line about what was
  // left out then stands for many.
  if (lines_ < (left_out_ > 0 ? kLinesPerSecond : 1)) {
    ++left_out_;
    return false;
  }
  lines_ -= 1;
  std::swap(suppressed, left_out_);
  return true;
}

void TenantInfo(absl::string_view tenant, absl::string_view event, Fields fields) {
  static Mutex mutex;
  // One entry a tenant, of which a configuration has 64 at most.
  static auto* const budgets = new std::map<std::string, LineBudget, std::less<>>;
  uint64_t suppressed = 0;
  {
    const MutexLock lock(mutex);
    if (!(*budgets)[std::string(tenant)].Take(absl::Now(), suppressed)) return;
  }
  if (suppressed > 0) Info("lines left out", {{"suppressed", suppressed}, {"tenant", tenant}});
  Info(event, fields);
}

}  // namespace kvtier::log
