#include "sim/trace_generator.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tiering/base/rng.h"

namespace kvtier::sim {
namespace {

// Whole numbers only: what a library's logarithm returns is not the same everywhere.
class Workload {
 public:
  explicit Workload(const WorkloadOptions& options)
      : options_(options), rng_(options.seed), prefixes_(options.prefixes) {
    for (uint32_t i = 0; i < options.concurrency; ++i) Start(rng_.Below(2 * Pause() + 1));
  }

  // The next line.
  std::string Next() {
    auto node = next_.extract(next_.begin());
    const uint64_t now_ms = node.key().first;
    Conversation& conversation = node.mapped();
    conversation.tokens += AroundMean(options_.input_tokens_mean);
    std::string line = Line(now_ms, conversation);
    if (conversation.turns_left > 0 && conversation.tokens < options_.context_tokens_max) {
      --conversation.turns_left;
      Queue(now_ms + 1 + AroundMean(options_.pause_ms_mean), std::move(conversation));
    } else {
      Start(now_ms + 1 + rng_.Below(2 * Pause() + 1));
    }
    return line;
  }

 private:
  struct Conversation {
    std::vector<uint64_t> blocks;  // whole ones
    uint64_t tokens = 0;
    uint64_t turns_left = 0;
  };

  // 1 to 2 * mean - 1, each as likely.
  uint64_t AroundMean(uint64_t mean) { return 1 + rng_.Below(2 * mean - 1); }
  uint64_t Pause() const { return options_.pause_ms_mean; }

  void Queue(uint64_t at_ms, Conversation conversation) {
    // The number keeps conversations of the same millisecond apart, and in order.
    next_.emplace(std::pair(at_ms, queued_++), std::move(conversation));
  }

  // A few are chosen far more often than the others: the first half of any range three times in
  // four, and so on within it. Of 1000 the first is chosen about 40 times as often as the average.
  uint32_t ChoosePrefix() {
    uint64_t bound = options_.prefixes;
    while (bound > 1 && !rng_.OneIn(4)) bound = (bound + 1) / 2;
    return static_cast<uint32_t>(rng_.Below(bound));
  }

  void Start(uint64_t at_ms) {
    Conversation conversation;
    std::vector<uint64_t>& prefix = prefixes_[ChoosePrefix()];
    conversation.tokens = options_.common_tokens + options_.prefix_tokens;
    const uint64_t common_blocks = options_.common_tokens / options_.block_tokens;
    const uint64_t prefix_blocks = conversation.tokens / options_.block_tokens;
    while (common_.size() < common_blocks) common_.push_back(ids_++);
    if (prefix.empty()) prefix = common_;
    while (prefix.size() < prefix_blocks) prefix.push_back(ids_++);
    conversation.blocks = prefix;
    // Geometric: each turn is the last with the same probability.
    while (options_.kind != WorkloadKind::kRag && !rng_.OneIn(options_.turns_mean))
      ++conversation.turns_left;
    Queue(at_ms, std::move(conversation));
  }

  std::string Line(uint64_t now_ms, Conversation& conversation) {
    const uint64_t input_tokens = conversation.tokens;
    const uint64_t output_tokens = AroundMean(options_.output_tokens_mean);
    while ((conversation.blocks.size() + 1) * options_.block_tokens <= input_tokens)
      conversation.blocks.push_back(ids_++);
    std::string ids = absl::StrJoin(conversation.blocks, ", ");
    if (input_tokens % options_.block_tokens != 0)
      absl::StrAppend(&ids, ids.empty() ? "" : ", ", ids_++);
    conversation.tokens += output_tokens;  // the next prompt has the answer in it
    return absl::StrCat("{\"timestamp\": ", now_ms, ", \"input_length\": ", input_tokens,
                        ", \"output_length\": ", output_tokens, ", \"hash_ids\": [", ids, "]}\n");
  }

  const WorkloadOptions options_;
  Rng rng_;
  uint64_t ids_ = 0;
  uint64_t queued_ = 0;
  std::vector<uint64_t> common_;                 // blocks of what every prompt begins with
  std::vector<std::vector<uint64_t>> prefixes_;  // made when first chosen
  std::map<std::pair<uint64_t, uint64_t>, Conversation> next_;  // by time
};

}  // namespace

WorkloadOptions DefaultWorkload(WorkloadKind kind) {
  WorkloadOptions options;
  options.kind = kind;
  if (kind == WorkloadKind::kRag) {
    options.prefixes = 1000;
    options.prefix_tokens = 6144;
    options.input_tokens_mean = 120;
  } else if (kind == WorkloadKind::kAgent) {
    options.prefixes = 2;
    options.prefix_tokens = 14'336;
    options.turns_mean = 40;
    options.input_tokens_mean = 1200;
    options.output_tokens_mean = 200;
    options.pause_ms_mean = 6000;
  }
  return options;
}

absl::Status GenerateTrace(const WorkloadOptions& options,
                           const std::function<absl::Status(std::string_view)>& write) {
  Workload workload(options);
  for (uint64_t i = 0; i < options.requests; ++i) {
    if (absl::Status status = write(workload.Next()); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace kvtier::sim
