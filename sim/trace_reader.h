// Reads traces: Mooncake JSONL, one coding-agent session as JSON, or a directory of such sessions.
//
// Errors: INVALID_ARGUMENT "FILE:LINE: ..." or "FILE: requests[N]: ..." with what was found and
// what the limit is; NOT_FOUND, PERMISSION_DENIED or DATA_LOSS with the path where it cannot be
// read. No content makes it throw, crash or take more than the limits of trace.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sim/trace.h"

namespace kvtier::sim {

struct TraceReadOptions {
  // Of JSONL, which does not say it.
  uint32_t block_tokens = 512;
  // At most so many requests of JSONL are read; the rest of the file is not looked at.
  uint64_t requests_max = kRequestsMax;
};

// `path` is a file or a directory; of a directory the files that end in ".json" are taken.
absl::StatusOr<Trace> ReadTrace(const std::string& path, const TraceReadOptions& options);

// Appends the request of one line of JSONL; `place` is where it stands. Its ids must be as many as
// its prompt has blocks of the trace's block_tokens, which is set.
absl::Status AppendMooncakeLine(std::string_view line, const std::string& place, Trace& trace);

// Appends a session; `name`, a file's name without its folder, keeps its ids apart from those of
// others. The first session sets the trace's block_tokens; the next must have the same.
absl::Status AppendSession(std::string_view text, const std::string& name, const std::string& place,
                           Trace& trace);

}  // namespace kvtier::sim
