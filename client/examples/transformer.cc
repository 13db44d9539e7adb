#include "client/examples/transformer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "tiering/base/check.h"

namespace kvtier::examples {
namespace {

using Float4 = float __attribute__((vector_size(16)));

inline Float4 Load4(const float* from) {
  Float4 value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// bf16 is the upper half of a float.
inline Float4 Load4(const uint16_t* from) {
  using Short4 = uint16_t __attribute__((vector_size(8)));
  using Uint4 = uint32_t __attribute__((vector_size(16)));
  Short4 halves;
  std::memcpy(&halves, from, sizeof(halves));
  const Uint4 bits = __builtin_convertvector(halves, Uint4) << 16;
  Float4 value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

template <typename Element>
inline float DotKey(const float* query, const Element* key, size_t size) {
  Float4 even = {};
  Float4 odd = {};
  for (size_t i = 0; i < size; i += 2 * kVectorWidth) {
    even += Load4(query + i) * Load4(key + i);
    odd += Load4(query + i + kVectorWidth) * Load4(key + i + kVectorWidth);
  }
  const Float4 sum = even + odd;
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// out += weight * value.
template <typename Element>
inline void AddScaled(float weight, const Element* value, size_t size, float* out) {
  for (size_t i = 0; i < size; i += kVectorWidth) {
    const Float4 sum = Load4(out + i) + weight * Load4(value + i);
    std::memcpy(out + i, &sum, sizeof(sum));
  }
}

}  // namespace

void AttentionMass::Grow(size_t layers, size_t chunks) {
  layer_chunk.resize(layers);
  for (std::vector<float>& row : layer_chunk) {
    if (row.size() < chunks) row.resize(chunks, 0.0f);
  }
}

Transformer::Transformer(const Weights& weights, const KvGeometry& geometry)
    : weights_(weights), geometry_(geometry) {
  const ModelConfig& config = weights.config;
  KVTIER_CHECK(geometry.layers == config.num_hidden_layers &&
               geometry.head_dim == config.head_dim &&
               geometry.kv_heads == config.num_key_value_heads);
  for (std::vector<float>* rows : {&residual_, &normed_, &branch_})
    rows->resize(kBatchTokens * config.hidden_size);
  for (std::vector<float>* rows : {&query_, &attended_})
    rows->resize(kBatchTokens * config.query_size());
  for (std::vector<float>* rows : {&key_, &value_})
    rows->resize(kBatchTokens * config.key_value_size());
  for (std::vector<float>* rows : {&gate_, &up_})
    rows->resize(kBatchTokens * config.intermediate_size);
  for (std::vector<float>* rows : {&cosines_, &sines_})
    rows->resize(kBatchTokens * config.head_dim / 2);
}

void Transformer::Forward(std::span<const uint32_t> tokens, KvTable& kv, std::span<float> logits,
                          AttentionMass* mass) {
  KVTIER_CHECK(logits.empty() || (!tokens.empty() && logits.size() == ModelConfig::kVocabulary));
  const size_t last_batch = tokens.empty() ? 0 : (tokens.size() - 1) % kBatchTokens;
  while (!tokens.empty()) {
    const size_t count = std::min(tokens.size(), kBatchTokens);
    ForwardBatch(tokens.first(count), kv, mass);
    tokens = tokens.subspan(count);
  }
  if (logits.empty()) return;
  const size_t hidden = weights_.config.hidden_size;
  RmsNorm({&residual_[last_batch * hidden], hidden}, weights_.final_norm,
          weights_.config.rms_norm_eps, normed_.data());
  MatMul(weights_.vocabulary, normed_.data(), 1, logits.data());
}

void Transformer::ForwardBatch(std::span<const uint32_t> tokens, KvTable& kv, AttentionMass* mass) {
  const ModelConfig& config = weights_.config;
  const size_t first = kv.tokens();
  const size_t half = config.head_dim / 2;
  kv.Grow(first + tokens.size());
  if (mass != nullptr) {
    mass->Grow(config.num_hidden_layers, kv.chunks());
    mass->queries += tokens.size();
  }
  for (size_t t = 0; t < tokens.size(); ++t) {
    KVTIER_CHECK(tokens[t] < ModelConfig::kVocabulary);
    std::copy_n(&weights_.embedding[tokens[t] * config.hidden_size], config.hidden_size,
                &residual_[t * config.hidden_size]);
    RopeAngles(first + t, config.rope_theta, {&cosines_[t * half], half},
               {&sines_[t * half], half});
  }
  for (size_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    Attention(layer, tokens.size(), kv, mass);
    Mlp(weights_.layers[layer], tokens.size());
  }
  kv.SetTokens(first + tokens.size());
}

void Transformer::Attention(size_t layer, size_t tokens, KvTable& kv, AttentionMass* mass) {
  const ModelConfig& config = weights_.config;
  const LayerWeights& weights = weights_.layers[layer];
  const size_t hidden = config.hidden_size;
  const size_t half = config.head_dim / 2;
  for (size_t t = 0; t < tokens; ++t) {
    RmsNorm({&residual_[t * hidden], hidden}, weights.attention_norm, config.rms_norm_eps,
            &normed_[t * hidden]);
  }
  MatMul(weights.query, normed_.data(), tokens, query_.data());
  MatMul(weights.key, normed_.data(), tokens, key_.data());
  MatMul(weights.value, normed_.data(), tokens, value_.data());
  for (size_t t = 0; t < tokens; ++t) {
    const std::span<const float> cosines(&cosines_[t * half], half);
    const std::span<const float> sines(&sines_[t * half], half);
    for (size_t h = 0; h < config.num_attention_heads; ++h) {
      Rope(cosines, sines, &query_[t * config.query_size() + h * config.head_dim]);
    }
    for (size_t h = 0; h < config.num_key_value_heads; ++h) {
      Rope(cosines, sines, &key_[t * config.key_value_size() + h * config.head_dim]);
    }
  }
  AppendKv(layer, tokens, kv);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t h = 0; h < config.num_attention_heads; ++h) {
      if (geometry_.type == KvType::kFloat32) {
        Attend<float>(layer, t, h, kv, mass);
      } else {
        Attend<uint16_t>(layer, t, h, kv, mass);
      }
    }
  }
  MatMul(weights.output, attended_.data(), tokens, branch_.data());
  AddInPlace({residual_.data(), tokens * hidden}, {branch_.data(), tokens * hidden});
}

void Transformer::Mlp(const LayerWeights& layer, size_t tokens) {
  const ModelConfig& config = weights_.config;
  const size_t hidden = config.hidden_size;
  const size_t inner = config.intermediate_size;
  for (size_t t = 0; t < tokens; ++t) {
    RmsNorm({&residual_[t * hidden], hidden}, layer.mlp_norm, config.rms_norm_eps,
            &normed_[t * hidden]);
  }
  MatMul(layer.gate, normed_.data(), tokens, gate_.data());
  MatMul(layer.up, normed_.data(), tokens, up_.data());
  SwiGlu({gate_.data(), tokens * inner}, {up_.data(), tokens * inner});
  MatMul(layer.down, gate_.data(), tokens, branch_.data());
  AddInPlace({residual_.data(), tokens * hidden}, {branch_.data(), tokens * hidden});
}

void Transformer::AppendKv(size_t layer, size_t tokens, KvTable& kv) const {
  const size_t size = weights_.config.key_value_size();
  for (size_t t = 0; t < tokens; ++t) {
    const size_t position = kv.tokens() + t;
    const size_t chunk = position / geometry_.chunk_tokens;
    const size_t offset = position % geometry_.chunk_tokens * geometry_.token_bytes();
    for (const bool is_value : {false, true}) {
      const float* from = (is_value ? value_ : key_).data() + t * size;
      std::byte* to = kv.writable_plane(chunk, 2 * layer + (is_value ? 1 : 0)).data() + offset;
      if (geometry_.type == KvType::kFloat32) {
        std::memcpy(to, from, size * sizeof(float));
      } else {
        for (size_t i = 0; i < size; ++i) {
          const uint16_t rounded = FloatToBf16(from[i]);
          std::memcpy(to + i * sizeof(rounded), &rounded, sizeof(rounded));
        }
      }
    }
  }
}

// One query head of one token of the batch against every position up to its own, in position order.
template <typename Element>
void Transformer::Attend(size_t layer, size_t token, size_t head, const KvTable& kv,
                         AttentionMass* mass) {
  const ModelConfig& config = weights_.config;
  const size_t positions = kv.tokens() + token + 1;
  const size_t size = config.head_dim;
  const size_t kv_head = head / (config.num_attention_heads / config.num_key_value_heads);
  const size_t stride = config.key_value_size();
  const float* query = &query_[token * config.query_size() + head * size];
  float* out = &attended_[token * config.query_size() + head * size];
  const float scale = 1.0f / std::sqrt(static_cast<float>(size));
  if (scores_.size() < positions) scores_.resize(positions + geometry_.chunk_tokens);

  // Calls `use(position, pointer to this head's K or V there)` for every position.
  const auto for_each = [&](size_t plane, const auto& use) {
    for (size_t first = 0; first < positions; first += geometry_.chunk_tokens) {
      const std::byte* bytes = kv.plane(first / geometry_.chunk_tokens, plane).data();
      const Element* elements = reinterpret_cast<const Element*>(bytes) + kv_head * size;
      const size_t count = std::min(geometry_.chunk_tokens, positions - first);
      for (size_t i = 0; i < count; ++i) use(first + i, elements + i * stride);
    }
  };

  for_each(2 * layer, [&](size_t position, const Element* key) {
    scores_[position] = DotKey(query, key, size) * scale;
  });
  Softmax({scores_.data(), positions});
  std::fill_n(out, size, 0.0f);
  for_each(2 * layer + 1, [&](size_t position, const Element* value) {
    AddScaled(scores_[position], value, size, out);
  });
  if (mass == nullptr) return;
  const float share = 1.0f / static_cast<float>(config.num_attention_heads);
  std::vector<float>& row = mass->layer_chunk[layer];
  for (size_t first = 0; first < positions; first += geometry_.chunk_tokens) {
    const size_t count = std::min(geometry_.chunk_tokens, positions - first);
    float sum = 0.0f;
    for (size_t i = 0; i < count; ++i) sum += scores_[first + i];
    row[first / geometry_.chunk_tokens] += sum * share;
  }
}

}  // namespace kvtier::examples
