// Any bytes as a trace: lines of Mooncake JSONL and a session are read or refused with
// INVALID_ARGUMENT that names the place; what was read lies within its bounds and can be scheduled.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "client/cli/replay/play_message.h"
#include "sim/schedule.h"
#include "sim/trace_reader.h"
#include "tiering/base/check.h"

namespace kvtier::sim {
namespace {

void CheckStatus(const absl::Status& status) {
  if (status.ok()) return;
  KVTIER_CHECK(absl::IsInvalidArgument(status));
  KVTIER_CHECK(absl::StartsWith(status.message(), "here: "));
}

void CheckTrace(const Trace& trace) {
  if (trace.requests.empty()) return;
  size_t ids = 0;
  for (const TraceRequest& request : trace.requests) {
    KVTIER_CHECK(std::isfinite(request.at_s) && request.at_s >= 0);
    KVTIER_CHECK(request.first_block + request.block_count <= trace.ids.size());
    KVTIER_CHECK(request.shared_blocks <= request.block_count);
    ids += request.block_count;
  }
  KVTIER_CHECK(ids <= trace.ids.size());
  size_t in_sessions = 0;
  for (const TraceSession& session : trace.sessions) {
    KVTIER_CHECK(session.first_request == in_sessions);
    in_sessions += session.request_count;
  }
  KVTIER_CHECK(trace.sessions.empty() || in_sessions == trace.requests.size());
  const std::vector<Play> plays = MakeSchedule(trace, {.workers = 3, .sessions = 2, .seed = 1});
  KVTIER_CHECK(plays.size() == trace.requests.size());
  double before_s = 0;
  for (const Play& play : plays) {
    KVTIER_CHECK(play.at_s >= before_s && play.worker < 3 && play.request < plays.size());
    before_s = play.at_s;
  }
}

}  // namespace
}  // namespace kvtier::sim

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvtier::sim;  // NOLINT(google-build-using-namespace)
  const std::string text(reinterpret_cast<const char*>(data), size);
  Trace lines{.block_tokens = 512};
  for (const absl::string_view line : absl::StrSplit(text, '\n'))
    kvtier::sim::CheckStatus(AppendMooncakeLine({line.data(), line.size()}, "here", lines));
  kvtier::sim::CheckTrace(lines);
  // Twice: the second session must not run into the first one's.
  Trace sessions;
  for (const char* name : {"a", "b"}) {
    const absl::Status status = AppendSession(text, name, "here", sessions);
    kvtier::sim::CheckStatus(status);
    if (!status.ok()) return 0;
  }
  kvtier::sim::CheckTrace(sessions);
  (void)kvtier::replay::DecodeRequest(text);
  (void)kvtier::replay::DecodeResult(text);
  return 0;
}
