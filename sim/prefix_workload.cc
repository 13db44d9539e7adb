#include "sim/prefix_workload.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "sim/schedule.h"

namespace kvtier::sim {
namespace {

class PrefixWorkloadBuilder {
 public:
  PrefixWorkloadBuilder(const Trace& trace, const ModelSpec& model) : trace_(trace), model_(model) {
    workload_.chunk_tokens = trace.block_tokens;
    workload_.bytes_per_token = model.KvBytesPerToken();
  }

  absl::Status Add(uint32_t number) {
    const TraceRequest& request = trace_.requests[number];
    const uint64_t whole_tokens = uint64_t{request.block_count} * trace_.block_tokens;
    if (whole_tokens > kPromptTokensMax) {
      return absl::InvalidArgumentError(absl::StrCat(Place(number), ": the prompt has ",
                                                     whole_tokens, " tokens; the limit is ",
                                                     kPromptTokensMax));
    }
    const auto ids = trace_.IdsOf(request);
    PrefixRequest& phase = workload_.requests.emplace_back();
    phase.first_chunk = workload_.request_chunks.size();
    phase.chunk_count = request.block_count;
    phase.trace_request = number;
    const uint32_t last_tokens = LastTokens(request);
    uint32_t parent = kNoChunk;
    for (uint32_t i = 0; i < request.block_count; ++i) {
      const bool last = i + 1 == request.block_count;
      const uint32_t tokens = last ? last_tokens : trace_.block_tokens;
      parent = Chunk(parent, NameOf(request, i, ids[i]), tokens, uint64_t{i} * trace_.block_tokens);
      if (workload_.chunks[parent].tokens != tokens) {
        return absl::InvalidArgumentError(
            absl::StrCat(Place(number), ": the prompt has ", tokens, " tokens of block ", ids[i],
                         ", and an earlier one had ", workload_.chunks[parent].tokens,
                         " of it; a block that fills up needs another name"));
      }
      workload_.request_chunks.push_back(parent);
    }
    if (request.tokens > whole_tokens) {
      const uint64_t extra = std::min<uint64_t>(request.tokens - whole_tokens, trace_.block_tokens);
      phase.extra_flops = model_.PrefillFlops(extra, whole_tokens);
    }
    return absl::OkStatus();
  }

  PrefixWorkload Take() { return std::move(workload_); }

 private:
  std::string Place(uint32_t number) const {
    const uint32_t line = trace_.requests[number].line;
    return line > 0 ? absl::StrCat("line ", line, " of the trace")
                    : absl::StrCat("request ", number, " of the trace");
  }

  // Of the last block; a trace that does not say how long its prompts are has whole blocks.
  uint32_t LastTokens(const TraceRequest& request) const {
    const uint64_t size = trace_.block_tokens;
    if (request.block_count == 0) return 0;
    const uint64_t before = (request.block_count - 1) * size;
    if (request.tokens <= before || request.tokens >= before + size)
      return static_cast<uint32_t>(size);
    return static_cast<uint32_t>(request.tokens - before);
  }

  uint32_t Chunk(uint32_t parent, const BlockName& name, uint32_t tokens, uint64_t context) {
    const auto next = static_cast<uint32_t>(workload_.chunks.size());
    const auto [found, is_new] = numbers_.try_emplace(Key{parent, name.scope, name.id}, next);
    if (is_new) {
      workload_.chunks.push_back({.parent = parent,
                                  .tokens = tokens,
                                  .context_tokens = context,
                                  .bytes = tokens * workload_.bytes_per_token,
                                  .recompute_flops = model_.PrefillFlops(tokens, context)});
    }
    return found->second;
  }

  using Key = std::tuple<uint32_t, uint64_t, uint64_t>;  // parent, scope, id

  const Trace& trace_;
  const ModelSpec& model_;
  PrefixWorkload workload_;
  absl::flat_hash_map<Key, uint32_t> numbers_;
};

}  // namespace

absl::StatusOr<PrefixWorkload> MakePrefixWorkload(const Trace& trace, const ModelSpec& model,
                                                  const PrefixWorkloadOptions& options) {
  if (trace.requests.empty()) return absl::InvalidArgumentError("the trace has no request");
  const std::vector<Play> plays = MakeSchedule(
      trace,
      {.sessions = options.sessions, .seed = options.seed, .requests_max = options.requests_max});
  PrefixWorkloadBuilder builder(trace, model);
  for (const Play& play : plays) {
    if (options.stop && options.stop())
      return absl::CancelledError("the reading of requests was ended");
    if (absl::Status status = builder.Add(play.request); !status.ok()) return status;
  }
  PrefixWorkload workload = builder.Take();
  if (workload.chunks.empty())
    return absl::InvalidArgumentError("no request of the trace has a block");
  return workload;
}

}  // namespace kvtier::sim
