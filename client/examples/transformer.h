#pragma once

// The decoder: tokens in, KV appended, logits out.

#include <cstdint>
#include <span>
#include <vector>

#include "client/examples/kv_table.h"
#include "client/examples/weights.h"

namespace kvtier::examples {

// What tokens attended to: per layer and chunk, attention probability summed over the chunk's
// tokens and over queries, averaged over heads. After n queries a layer's row sums to n.
struct AttentionMass {
  // Makes room for `chunks` columns, keeping what is there.
  void Grow(size_t layers, size_t chunks);

  std::vector<std::vector<float>> layer_chunk;
  size_t queries = 0;
};

// Runs one sequence at a time; holds scratch memory, so it is not thread-safe. `weights` must
// outlive it.
//
// Invariant: the KV and the logits of a token are a function of the weights and of the KV of the
// tokens before it, to the bit. How tokens are spread over calls makes no difference, nor whether
// the earlier KV was computed here, copied in, or is
// read where somebody else wrote it. KV in bf16 is rounded before anything attends to
// it.
class Transformer {
 public:
  Transformer(const Weights& weights, const KvGeometry& geometry);

  // Appends the KV of `tokens` (values below 256) after the kv.tokens() that are there. If `logits`
  // is not empty it must hold 256 floats and receives those after the last token; that needs at
  // least one token. `mass`, if not null, has the attention of these tokens added to it. The caller
  // keeps the sequence within config.max_position_embeddings, and no chunk of what is there is
  // lost.
  void Forward(std::span<const uint32_t> tokens, KvTable& kv, std::span<float> logits,
               AttentionMass* mass);

 private:
  // Tokens computed together: enough to use each weight several times while it is in a register or
  // cache.
  static constexpr size_t kBatchTokens = 16;

  void ForwardBatch(std::span<const uint32_t> tokens, KvTable& kv, AttentionMass* mass);
  void Attention(size_t layer, size_t tokens, KvTable& kv, AttentionMass* mass);
  void Mlp(const LayerWeights& layer, size_t tokens);
  void AppendKv(size_t layer, size_t tokens, KvTable& kv) const;
  template <typename Element>
  void Attend(size_t layer, size_t token, size_t head, const KvTable& kv, AttentionMass* mass);

  const Weights& weights_;
  const KvGeometry geometry_;
  // Row-major [token][size], for kBatchTokens tokens.
  std::vector<float> residual_, normed_, query_, key_, value_, attended_, branch_, gate_, up_;
  std::vector<float> cosines_, sines_;  // [token][head_dim / 2]
  std::vector<float> scores_;           // one query against all positions
};

}  // namespace kvtier::examples
