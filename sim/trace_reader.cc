#include "sim/trace_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "sim/input_file.h"

namespace kvtier::sim {
namespace {

// Appends up to `bytes_max` bytes; fewer only at the end of the file.
absl::Status Read(const std::string& path, std::FILE* file, size_t bytes_max, std::string& text) {
  char buffer[1 << 16];
  while (bytes_max > 0) {
    const size_t got = std::fread(buffer, 1, std::min(bytes_max, sizeof(buffer)), file);
    text.append(buffer, got);
    bytes_max -= got;
    if (got == 0) break;
  }
  return std::ferror(file) != 0 ? CannotRead(path, errno) : absl::OkStatus();
}

// Sessions have a header that lines of Mooncake have not.
bool LooksLikeSession(const std::string& path, std::string_view start) {
  const absl::string_view text(start.data(), start.size());
  return absl::StrContains(text, "\"block_size\"") || absl::StrContains(text, "\"requests\"") ||
         (absl::EndsWith(path, ".json") && !absl::StrContains(text, "\"timestamp\""));
}

absl::Status AppendLines(const std::string& path, std::FILE* file, std::string text,
                         const TraceReadOptions& options, Trace& trace) {
  if (options.block_tokens == 0 || options.block_tokens > kBlockTokensMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "blocks of ", options.block_tokens, " tokens; 1 to ", kBlockTokensMax, " are possible"));
  }
  trace.block_tokens = options.block_tokens;
  uint64_t number = 1;  // of the line
  for (size_t at = 0;;) {
    size_t end = text.find('\n', at);
    if (end == std::string::npos) {
      text.erase(0, std::exchange(at, 0));
      if (text.size() > kLineBytesMax) {
        return absl::InvalidArgumentError(absl::StrCat(path, ":", number,
                                                       ": the line has more than ", kLineBytesMax,
                                                       " bytes, which is the limit"));
      }
      const size_t before = text.size();
      absl::Status status = Read(path, file, 1 << 20, text);
      if (!status.ok()) return status;
      if (text.size() > before) continue;
      end = text.size();  // the last line has no newline
      if (end == 0) return absl::OkStatus();
    }
    const std::string_view line(text.data() + at, end - at);
    const std::string place = absl::StrCat(path, ":", number);
    if (!absl::StripAsciiWhitespace({line.data(), line.size()}).empty()) {
      if (trace.requests.size() >= options.requests_max) return absl::OkStatus();
      if (trace.requests.size() >= kRequestsMax) {
        return absl::InvalidArgumentError(absl::StrCat(
            place, ": the trace has more than ", kRequestsMax, " requests, which is the limit"));
      }
      absl::Status status = AppendMooncakeLine(line, place, trace);
      if (!status.ok()) return status;
      trace.requests.back().line = static_cast<uint32_t>(number);
    }
    at = std::min(end + 1, text.size());
    ++number;
  }
}

absl::Status AppendSessionFile(const std::string& path, std::FILE* file, std::string text,
                               Trace& trace) {
  absl::Status status = Read(path, file, kSessionFileBytesMax + 1 - text.size(), text);
  if (!status.ok()) return status;
  if (text.size() > kSessionFileBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": has more than ", kSessionFileBytesMax,
                                                   " bytes, which is a session's limit"));
  }
  return AppendSession(text, std::filesystem::path(path).filename().string(), path, trace);
}

absl::Status AppendFile(const std::string& path, bool session, const TraceReadOptions& options,
                        Trace& trace) {
  auto file = OpenInputFile(path);
  if (!file.ok()) return file.status();
  std::string text;
  absl::Status status = Read(path, file->get(), 4096, text);
  if (!status.ok()) return status;
  if (session || LooksLikeSession(path, text))
    return AppendSessionFile(path, file->get(), std::move(text), trace);
  return AppendLines(path, file->get(), std::move(text), options, trace);
}

// In order of their names: the order of a directory is not the same everywhere.
absl::StatusOr<std::vector<std::string>> SessionFiles(const std::string& directory) {
  std::vector<std::string> paths;
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (entry->path().extension() == ".json") paths.push_back(entry->path().string());
  }
  if (error) return CannotRead(directory, error.value());
  if (paths.empty()) {
    return absl::NotFoundError(
        absl::StrCat(directory, ": a directory without a session: no file ends in .json"));
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

absl::StatusOr<Trace> ReadTrace(const std::string& path, const TraceReadOptions& options) {
  Trace trace;
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    auto paths = SessionFiles(path);
    if (!paths.ok()) return paths.status();
    for (const std::string& session : *paths) {
      absl::Status status = AppendFile(session, true, options, trace);
      if (!status.ok()) return status;
    }
  } else if (absl::Status status = AppendFile(path, false, options, trace); !status.ok()) {
    return status;
  }
  if (trace.requests.empty())
    return absl::InvalidArgumentError(absl::StrCat(path, ": there is no request in it"));
  return trace;
}

}  // namespace kvtier::sim
