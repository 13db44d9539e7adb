// What a bound and a simulation need to know of a model: how large its cache and its weights are,
// and how much it computes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace kvtier::sim {

// Plain data: read from a file (spec_reader.h), possibly overridden, then checked. A "plane" is one
// layer's cache; all of them have equal size.
struct ModelSpec {
  std::string name;
  uint32_t layers = 0;
  uint32_t query_heads = 0;
  // Grouped queries: keys and values of so many heads of head_dim values each. Zero heads: one
  // latent of latent_dim values instead (MLA).
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t latent_dim = 0;
  uint32_t bytes_per_value = 0;  // of the cache
  // Of one query head: values multiplied for a score, and for a weighted sum.
  uint32_t score_dim = 0;
  uint32_t value_dim = 0;
  uint64_t weight_bytes = 0;  // what of the GPU's own memory they occupy
  // What every pass over one or more tokens reads of them at least: of a mixture of experts, those
  // that one token uses.
  uint64_t pass_weight_bytes = 0;
  // Of matrices that every token of a prompt is multiplied with, 2 operations each. The output
  // head, which only a prompt's last token needs, does not count.
  uint64_t active_parameters = 0;

  uint64_t KvBytesPerTokenAndPlane() const {
    return uint64_t{bytes_per_value} *
           (kv_heads > 0 ? uint64_t{2} * kv_heads * head_dim : uint64_t{latent_dim});
  }
  uint64_t KvBytesPerToken() const { return layers * KvBytesPerTokenAndPlane(); }
  // Of a plane's share of what is computed for one token, without attention to others.
  uint64_t FlopsPerToken() const { return 2 * active_parameters; }
  // Of one query token and one token that it attends to, all layers.
  uint64_t AttentionFlopsPerPair() const {
    return uint64_t{2} * layers * query_heads * (uint64_t{score_dim} + value_dim);
  }
  // To compute `tokens` tokens behind `context` others of the same prompt; each attends to all
  // before it and to itself.
  uint64_t PrefillFlops(uint64_t tokens, uint64_t context) const {
    return tokens * FlopsPerToken() +
           (tokens * context + tokens * (tokens + 1) / 2) * AttentionFlopsPerPair();
  }
};

// INVALID_ARGUMENT "NAME: field is N; ..." for what no model can be. What passes keeps all of the
// above below 2^62 for prompts of up to kPromptTokensMax tokens.
absl::Status CheckModel(const ModelSpec& model);
inline constexpr uint64_t kPromptTokensMax = 1 << 20;

}  // namespace kvtier::sim
