// A trace of prompts as work for a model: chunks with their bytes and costs, and which of them each
// request needs, in the order in which requests are served.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "sim/model_spec.h"
#include "sim/trace.h"
#include "tiering/base/stop_check.h"

namespace kvtier::sim {

inline constexpr uint32_t kNoChunk = 0xffffffff;

// A chunk is what it is by its parent and its name. All planes together.
struct PrefixChunk {
  uint32_t parent = kNoChunk;   // a lower number; kNoChunk: a prompt begins with it
  uint32_t tokens = 0;          // of its own; fewer than a block's: the end of a prompt
  uint64_t context_tokens = 0;  // of its ancestors
  uint64_t bytes = 0;
  uint64_t recompute_flops = 0;  // once its ancestors are there
  friend bool operator==(const PrefixChunk& a, const PrefixChunk& b) = default;
};

// Its prefill: a phase.
struct PrefixRequest {
  uint64_t first_chunk = 0;  // in PrefixWorkload::request_chunks
  uint32_t chunk_count = 0;
  uint32_t trace_request = 0;  // in Trace::requests
  // To compute tokens behind the last chunk, which no chunk has.
  uint64_t extra_flops = 0;
  friend bool operator==(const PrefixRequest& a, const PrefixRequest& b) = default;
};

struct PrefixWorkload {
  uint32_t chunk_tokens = 0;
  uint64_t bytes_per_token = 0;
  std::vector<PrefixChunk> chunks;       // numbered by their first use
  std::vector<PrefixRequest> requests;   // in the order of their service
  std::vector<uint32_t> request_chunks;  // of all requests, each from its first chunk to its last

  absl::Span<const uint32_t> ChunksOf(const PrefixRequest& request) const {
    return absl::MakeConstSpan(request_chunks).subspan(request.first_chunk, request.chunk_count);
  }
};

struct PrefixWorkloadOptions {
  uint64_t requests_max = kRequestsMax;
  uint32_t sessions = 1;  // that run at a time, of a trace that has sessions
  uint64_t seed = 0;      // of their order
  StopCheck stop{};       // asked before each request; true ends it. May be empty
};

// A function of its arguments. INVALID_ARGUMENT: a prompt is too long for the model's arithmetic
// (kPromptTokensMax), the trace has no block at all, or one block has several numbers of tokens:
// what they share could not be told. CANCELLED by `stop`.
absl::StatusOr<PrefixWorkload> MakePrefixWorkload(const Trace& trace, const ModelSpec& model,
                                                  const PrefixWorkloadOptions& options);

}  // namespace kvtier::sim
