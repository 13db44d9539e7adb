#include "daemon/config_limits.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "daemon/config_units.h"
#include "tiering/base/copy_ref.h"

namespace kvtier {
namespace {

constexpr int64_t kKiB = 1024;
constexpr int64_t kMiB = 1024 * kKiB;
constexpr int64_t kGiB = 1024 * kMiB;
constexpr int64_t kTiB = 1024 * kGiB;
constexpr int64_t kSecond = 1000;
constexpr int64_t kMinute = 60 * kSecond;
constexpr int64_t kHour = 60 * kMinute;
// sockaddr_un holds 108 bytes with the final zero.
constexpr int64_t kSocketPathMax = 107;

constexpr FieldLimit Number(const char* path, int64_t minimum, int64_t maximum, int64_t value,
                            const char* help) {
  return {.path = path,
          .kind = FieldKind::kNumber,
          .minimum = minimum,
          .maximum = maximum,
          .default_number = value,
          .help = help};
}
constexpr FieldLimit Size(const char* path, int64_t minimum, int64_t maximum, int64_t value,
                          const char* help) {
  return {.path = path,
          .kind = FieldKind::kBytes,
          .minimum = minimum,
          .maximum = maximum,
          .default_number = value,
          .help = help};
}
constexpr FieldLimit Time(const char* path, int64_t minimum, int64_t maximum, int64_t value,
                          const char* help) {
  return {.path = path,
          .kind = FieldKind::kMilliseconds,
          .minimum = minimum,
          .maximum = maximum,
          .default_number = value,
          .help = help};
}
constexpr FieldLimit Text(const char* path, int64_t minimum, int64_t maximum, const char* value,
                          const char* help) {
  return {.path = path,
          .kind = FieldKind::kText,
          .minimum = minimum,
          .maximum = maximum,
          .default_text = value,
          .help = help};
}
constexpr FieldLimit Choice(const char* path, const char* choices, const char* value,
                            const char* help) {
  return {.path = path,
          .kind = FieldKind::kChoice,
          .choices = choices,
          .default_text = value,
          .help = help};
}
constexpr FieldLimit Flag(const char* path, bool value, const char* help) {
  return {.path = path, .kind = FieldKind::kFlag, .default_number = value, .help = help};
}
constexpr FieldLimit List(const char* path, int64_t minimum, int64_t maximum, const char* value,
                          const char* help) {
  return {.path = path,
          .kind = FieldKind::kList,
          .minimum = minimum,
          .maximum = maximum,
          .default_text = value,
          .help = help};
}
constexpr FieldLimit Fraction(const char* path, double minimum, double maximum, double value,
                              const char* help) {
  return {.path = path,
          .kind = FieldKind::kFraction,
          .fraction_minimum = minimum,
          .fraction_maximum = maximum,
          .default_fraction = value,
          .help = help};
}

constexpr FieldLimit kLimits[] = {
    Text("listen.socket", 1, kSocketPathMax,
         "$XDG_RUNTIME_DIR/kvtier/kvtierd.sock, else /run/kvtier/kvtierd.sock",
         "path of the Unix socket"),
    {.path = "listen.socket_mode",
     .kind = FieldKind::kOctal,
     .minimum = 0,
     .maximum = 0777,
     .default_text = "0600, or 0666 when a tenant lists another uid than the daemon's",
     .help = "permissions of the socket"},
    Text("listen.http", 0, 64, "off", "ADDRESS:PORT of /metrics, /healthz and /readyz; empty: off"),
    Flag("listen.shared_memory", true, "clients may read and write blocks in place"),
    Size("memory.segment_bytes", 64 * kKiB, 16 * kGiB, 64 * kMiB,
         "pools grow by this; a multiple of 4KiB"),
    Size("memory.reserve_bytes", 0, 64 * kTiB, kGiB, "pools stop growing while less is available"),
    Flag("memory.huge_pages", true, "use reserved huge pages when there are enough"),
    Number("memory.copy_threads", 1, 64, 1, "threads that move blocks between pools"),
    List("pools", 1, CopyRef::kPoolsMax, "hbm:0 of 256MiB and dram:0 of 1GiB",
         "memories, fastest first"),
    Text("pools[].name", 1, 64, "required", "unique: \"hbm:0\", \"dram:0\""),
    Choice("pools[].kind", "hbm|dram", "required", "hbm is emulated in host memory without a GPU"),
    Size("pools[].budget_bytes", 64 * kKiB, 64 * kTiB, 0, "at least one segment, at most 16,384"),
    Number("pools[].numa_node", -1, 1023, -1, "-1: not bound"),
    List("tenants", 1, 64, "`default`, the daemon's own uid, admin", "who may connect"),
    Text("tenants[].name", 1, 64, "required",
         "unique; printable ASCII without quotes and backslashes"),
    List("tenants[].uids", 1, 1024, "required", "users whose processes belong to the tenant"),
    Number("tenants[].uids[]", 0, 4'294'967'294, 0, "a uid belongs to one tenant"),
    Text("tenants[].salt", 0, 256, "random at each start", "part of every chunk key"),
    Flag("tenants[].admin", false, "may drain, set budgets and see all tenants' totals"),
    List("tenants[].quota_bytes", 0, CopyRef::kPoolsMax, "the pools' budgets", "by pool name"),
    Size("tenants[].quota_bytes{}", 64 * kKiB, 64 * kTiB, 0,
         "at most this of the pool; whole segments"),
    Choice("policy.name", "lru|lfu|s3fifo|static", "lru", "where blocks go"),
    List("policy.static_share", 0, CopyRef::kPoolsMax, "none",
         "of policy static: share of each chunk's blocks by pool; sums to 1"),
    Fraction("policy.static_share[]", 0, 1, 0, "share of one pool"),
    Number("policy.moves_in_flight_max", 1, 4096, 64, "copies between pools at once"),
    Size("policy.move_bytes_per_second_max", 0, 64 * kTiB, 0, "background moves; 0: no limit"),
    Flag("policy.logical_time", false,
         "clients may say at what time their accesses are, as a replay does"),
    Number("limits.chunks_max", 1, 268'435'456, 4'194'304, "rows of the block table"),
    Number("limits.models_max", 1, 4096, 64, "registered models"),
    Number("limits.planes_max", 1, 8192, 1024, "planes of one model"),
    Number("limits.sessions_max", 1, 65'536, 1024, "sessions"),
    Number("limits.leases_max", 1, 16'777'216, 262'144, "leases"),
    Number("limits.reservations_max", 1, 1'048'576, 16'384, "reservations"),
    Number("limits.chunks_per_call_max", 1, 65'536, 16'384, "chunks one call may name"),
    Size("limits.reserved_bytes_max", 64 * kKiB, 64 * kTiB, kGiB,
         "of a session's reservations, until they end"),
    Time("limits.session_timeout_ms", 100, kHour, 30 * kSecond, "a session without heartbeat ends"),
    Time("limits.lease_ttl_ms", 100, kHour, kMinute, "a lease that names no time"),
    Time("limits.lease_ttl_max_ms", 100, kHour, 10 * kMinute, "longest time of a lease"),
    Time("limits.incomplete_chunk_ttl_ms", 100, kHour, kMinute,
         "a chunk whose planes do not all come is dropped"),
    Fraction("limits.retired_share_max", 0.001, 0.5, 0.05,
             "moves stop while more of a pool waits for readers"),
    Number("limits.rpc_threads_max", 8, 1024, 64, "calls served at once, by tenant"),
    Number("limits.watch_streams_max", 0, 256, 16,
           "watch streams, by tenant; at most rpc_threads_max - 4"),
    Number("limits.connections_max", 1, 16'384, 1024, "connections; tenants share it evenly"),
    Number("limits.events_kept", 1, 1'048'576, 65'536, "events by tenant, for resuming a watch"),
    Number("limits.blocks_max", 8192, 4'294'967'294, 67'108'864,
           "blocks of the block table: one a plane for every chunk"),
    Number("limits.leased_chunks_max", 1, 268'435'456, 16'777'216,
           "chunks in all leases, a chunk once a lease; tenants share it evenly"),
    Time("limits.section_ms_max", 100, kHour, 10 * kSecond,
         "a client that reads in one section for longer gets nothing new until it leaves it"),
    Size("limits.scrub_bytes_per_second", 0, 64 * kGiB, 64 * kMiB,
         "copies verified in the background; 0: off"),
    Choice("log.level", "trace|debug|info|warn|error", "info", "the least that is logged"),
    Choice("log.format", "text|json", "text", "json: one object a line"),
};

std::string NumberText(const FieldLimit& limit, int64_t value) {
  switch (limit.kind) {
    case FieldKind::kBytes:
      return SizeText(static_cast<uint64_t>(value));
    case FieldKind::kMilliseconds:
      return DurationText(static_cast<uint64_t>(value));
    case FieldKind::kOctal:
      return absl::StrFormat("0%03o", value);
    default:
      return absl::StrCat(value);
  }
}

}  // namespace

absl::Span<const FieldLimit> ConfigLimits() { return kLimits; }

const FieldLimit* FindLimit(absl::string_view table_path) {
  for (const FieldLimit& limit : kLimits) {
    if (table_path == limit.path) return &limit;
  }
  return nullptr;
}

std::string RangeText(const FieldLimit& limit) {
  switch (limit.kind) {
    case FieldKind::kFlag:
      return "true or false";
    case FieldKind::kChoice:
      return absl::StrReplaceAll(limit.choices, {{"|", " or "}});
    case FieldKind::kFraction:
      return absl::StrCat(limit.fraction_minimum, " to ", limit.fraction_maximum);
    case FieldKind::kText:
      return limit.minimum == 0 ? absl::StrCat("up to ", limit.maximum, " bytes")
                                : absl::StrCat(limit.minimum, " to ", limit.maximum, " bytes");
    case FieldKind::kList:
      return absl::StrCat(limit.minimum, " to ", limit.maximum, " entries");
    default:
      return absl::StrCat(NumberText(limit, limit.minimum), " to ",
                          NumberText(limit, limit.maximum));
  }
}

std::string DefaultText(const FieldLimit& limit) {
  switch (limit.kind) {
    case FieldKind::kFlag:
      return limit.default_number != 0 ? "true" : "false";
    case FieldKind::kFraction:
      return absl::StrCat(limit.default_fraction);
    case FieldKind::kNumber:
    case FieldKind::kBytes:
    case FieldKind::kMilliseconds:
      // An entry of a list and a pool's budget have no default.
      if (limit.default_number < limit.minimum || absl::string_view(limit.path).back() == ']' ||
          absl::string_view(limit.path).back() == '}') {
        return "required";
      }
      return NumberText(limit, limit.default_number);
    default:
      return limit.default_text;
  }
}

std::string ConfigHelp() {
  std::string text;
  for (const FieldLimit& limit : kLimits) {
    absl::StrAppendFormat(&text, "%-36s %s\n%36s default: %s; allowed: %s\n", limit.path,
                          limit.help, "", DefaultText(limit), RangeText(limit));
  }
  return text;
}

}  // namespace kvtier
