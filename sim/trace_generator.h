// Synthetic traces in the Mooncake format.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "absl/status/status.h"

namespace kvtier::sim {

enum class WorkloadKind {
  kChat,   // conversations behind one of a few system prompts: each turn extends the one before
  kRag,    // instructions, a document that others ask about too, a question of its own
  kAgent,  // one of a few long sets of tools; many short steps, the prompt grows by each
};

struct WorkloadOptions {
  WorkloadKind kind = WorkloadKind::kChat;
  uint64_t requests = 1000;
  uint64_t seed = 0;
  uint32_t block_tokens = 512;
  uint32_t concurrency = 16;         // conversations at a time
  uint32_t prefixes = 4;             // chat: system prompts; rag: documents; agent: sets of tools
  uint64_t common_tokens = 512;      // that every prompt begins with
  uint64_t prefix_tokens = 2048;     // of each prefix, behind those
  uint64_t turns_mean = 5;           // requests of a conversation; rag has one
  uint64_t input_tokens_mean = 300;  // new in each request
  uint64_t output_tokens_mean = 300;
  uint64_t pause_ms_mean = 20'000;        // between the requests of a conversation
  uint64_t context_tokens_max = 128'000;  // a conversation that would exceed it ends
};

// What `kind` is like; requests and seed are the caller's.
WorkloadOptions DefaultWorkload(WorkloadKind kind);

// Calls `write` with one line after the other, newlines included, in order of their timestamps.
// The bytes are a function of the options, on any machine. Ends with the first error of `write`.
//
// Every whole block of a prompt keeps its id in the prompts that extend it; a last block that is
// not full has an id of its own in each request.
absl::Status GenerateTrace(const WorkloadOptions& options,
                           const std::function<absl::Status(std::string_view)>& write);

}  // namespace kvtier::sim
