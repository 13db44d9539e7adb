#include "tiering/host/machine_memory.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace kvtier {
namespace {

constexpr int64_t kHugeTablePageBytes = int64_t{2} << 20;

// The kernel's files have no size; these are far below this limit.
constexpr size_t kFileBytesMax = 64 << 10;

std::optional<std::string> ReadSmallFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::string text(kFileBytesMax, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

// The number after `name` in lines such as "MemFree:  123 kB", "Node 0 MemFree: 123 kB" or
// "inactive_file 123".
std::optional<int64_t> Field(absl::string_view text, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    for (size_t i = 0; i + 1 < words.size(); ++i) {
      int64_t value = 0;
      if (absl::StripSuffix(words[i], ":") == name && absl::SimpleAtoi(words[i + 1], &value))
        return value;
    }
  }
  return std::nullopt;
}

std::optional<int64_t> Number(const std::string& path) {
  const std::optional<std::string> text = ReadSmallFile(path);
  int64_t value = 0;
  if (!text.has_value() || !absl::SimpleAtoi(absl::StripSuffix(*text, "\n"), &value))
    return std::nullopt;
  return value;
}

struct GroupFiles {
  std::string directory;
  std::string limit;
  std::string usage;
  std::string cache_field;  // in memory.stat
};

// Control groups that hold this process, innermost first, with their parents: each sets a limit of
// its own.
std::vector<GroupFiles> Groups(const MemoryFiles& files) {
  std::vector<GroupFiles> groups;
  const std::optional<std::string> membership = ReadSmallFile(files.proc + "/self/cgroup");
  if (!membership.has_value()) return groups;
  for (absl::string_view line : absl::StrSplit(*membership, '\n')) {
    // "0::/path" is version 2; "7:memory:/path" is version 1.
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<absl::string_view> controllers = absl::StrSplit(parts[1], ',');
    const bool version_1 =
        std::find(controllers.begin(), controllers.end(), "memory") != controllers.end();
    if (!version_1 && !parts[1].empty()) continue;
    std::string path(absl::StripSuffix(parts[2], "/"));
    while (true) {
      const std::string directory = absl::StrCat(files.cgroup, version_1 ? "/memory" : "", path);
      groups.push_back(
          version_1 ? GroupFiles{directory, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                 "total_inactive_file"}
                    : GroupFiles{directory, "memory.max", "memory.current", "inactive_file"});
      const size_t slash = path.rfind('/');
      if (path.empty() || slash == std::string::npos) break;
      path.resize(slash);
    }
  }
  return groups;
}

}  // namespace

absl::StatusOr<MachineMemory> ReadMachineMemory(const MemoryFiles& files) {
  const std::optional<std::string> meminfo = ReadSmallFile(files.proc + "/meminfo");
  const std::optional<int64_t> available_kib =
      meminfo.has_value() ? Field(*meminfo, "MemAvailable") : std::nullopt;
  if (!available_kib.has_value()) {
    return absl::UnavailableError(
        absl::StrFormat("%s/meminfo has no readable MemAvailable", files.proc));
  }
  MachineMemory memory{.available = KiB(*available_kib), .limit = "MemAvailable"};
  for (const GroupFiles& group : Groups(files)) {
    // "max" is no number and no limit.
    const std::optional<int64_t> limit = Number(group.directory + "/" + group.limit);
    const std::optional<int64_t> usage = Number(group.directory + "/" + group.usage);
    if (!limit.has_value() || !usage.has_value()) continue;
    const std::optional<std::string> stat = ReadSmallFile(group.directory + "/memory.stat");
    const int64_t droppable = stat.has_value() ? Field(*stat, group.cache_field).value_or(0) : 0;
    const Bytes left(std::max<int64_t>(0, *limit - std::max<int64_t>(0, *usage - droppable)));
    if (left < memory.available)
      memory = {.available = left, .limit = group.directory + "/" + group.limit};
  }
  return memory;
}

absl::StatusOr<Bytes> ReadNodeMemory(int node, const MemoryFiles& files) {
  const std::string path = absl::StrFormat("%s/node%d/meminfo", files.nodes, node);
  const std::optional<std::string> text = ReadSmallFile(path);
  const std::optional<int64_t> free = text.has_value() ? Field(*text, "MemFree") : std::nullopt;
  if (!free.has_value())
    return absl::UnavailableError(absl::StrFormat("%s has no readable MemFree", path));
  return KiB(*free + Field(*text, "Active(file)").value_or(0) +
             Field(*text, "Inactive(file)").value_or(0));
}

Bytes ReadFreeHugePages(int node, const MemoryFiles& files) {
  if (node >= 0) {
    const std::string path =
        absl::StrFormat("%s/node%d/hugepages/hugepages-2048kB/free_hugepages", files.nodes, node);
    return Bytes(Number(path).value_or(0) * kHugeTablePageBytes);
  }
  const std::optional<std::string> meminfo = ReadSmallFile(files.proc + "/meminfo");
  if (!meminfo.has_value() || Field(*meminfo, "Hugepagesize") != kHugeTablePageBytes / 1024)
    return Bytes(0);
  const int64_t pages =
      Field(*meminfo, "HugePages_Free").value_or(0) - Field(*meminfo, "HugePages_Rsvd").value_or(0);
  return Bytes(std::max<int64_t>(0, pages) * kHugeTablePageBytes);
}

}  // namespace kvtier
