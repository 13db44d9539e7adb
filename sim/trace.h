// A trace of requests whose prompts share prefixes: what is replayed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace kvtier::sim {

// A block of a prompt, as the trace names it: equal names after equal prefixes are equal blocks.
// Scope 0 is the trace's own; ids of a session are in a scope of the session's own.
struct BlockName {
  uint64_t scope = 0;
  uint64_t id = 0;
  friend bool operator==(const BlockName& a, const BlockName& b) = default;
};

struct TraceRequest {
  double at_s = 0;           // since the start of the trace, or of the request's session
  uint64_t first_block = 0;  // of its prompt, in Trace::ids
  uint64_t tokens = 0;       // of its prompt; 0: not known
  uint32_t block_count = 0;
  uint32_t line = 0;  // of its file of lines, from 1; 0: of a session
  // The first blocks of a session's prompts, tools and system prompt, are named by their position,
  // in a scope that sessions with the same tools share.
  uint32_t shared_blocks = 0;
  uint64_t shared_scope = 0;
  uint64_t scope = 0;  // of the other blocks
};

// Requests of one session stand together, in order of their times.
struct TraceSession {
  size_t first_request = 0;
  size_t request_count = 0;
};

struct Trace {
  uint32_t block_tokens = 0;
  std::vector<uint64_t> ids{};
  std::vector<TraceRequest> requests{};
  std::vector<TraceSession> sessions{};  // empty: the requests' times are all the trace's own

  absl::Span<const uint64_t> IdsOf(const TraceRequest& request) const {
    return absl::MakeConstSpan(ids).subspan(request.first_block, request.block_count);
  }
};

inline BlockName NameOf(const TraceRequest& request, uint32_t block, uint64_t id) {
  if (block < request.shared_blocks) return {request.shared_scope, block};
  return {request.scope, id};
}

// What a trace may have; more is an error that names the limit.
inline constexpr uint64_t kRequestsMax = 10'000'000;
inline constexpr uint64_t kIdsMax = 32 << 20;  // of all requests together
inline constexpr uint64_t kBlocksPerRequestMax = 1 << 20;
inline constexpr uint64_t kTokensMax = 1'000'000'000;  // of one prompt or answer
inline constexpr uint32_t kBlockTokensMax = 1 << 16;
inline constexpr double kTraceSecondsMax = 1e9;    // 31 years
inline constexpr size_t kLineBytesMax = 16 << 20;  // of JSONL
inline constexpr size_t kSessionFileBytesMax = 64 << 20;
inline constexpr size_t kSessionsMax = 100'000;
inline constexpr int kAgentDepthMax = 8;  // agents within agents

}  // namespace kvtier::sim
