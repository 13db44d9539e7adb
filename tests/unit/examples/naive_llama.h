#pragma once

// A Llama forward pass written straight from the formulae, in double precision, with nothing
// cached: what the worker's transformer is checked against.

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/examples/model_config.h"
#include "tests/unit/examples/safetensors_bytes.h"
#include "tiering/base/rng.h"

namespace kvtier::examples {

using NamedFloats = std::map<std::string, std::pair<std::vector<size_t>, std::vector<float>>>;

// Random tensors under their Hugging Face names.
inline NamedFloats RandomLlamaTensors(const ModelConfig& config, uint64_t seed) {
  NamedFloats tensors;
  Rng rng(seed);
  const auto add = [&](const std::string& name, std::vector<size_t> shape) {
    size_t count = 1;
    for (const size_t dimension : shape) count *= dimension;
    // Norm scales are around one, everything else around zero with a gain of one and a half.
    const double scale =
        shape.size() == 1 ? 0.3 : 2.6 / std::sqrt(static_cast<double>(shape.back()));
    std::vector<float> floats(count);
    for (float& value : floats) {
      value =
          static_cast<float>((rng.Unit() * 2.0 - 1.0) * scale + (shape.size() == 1 ? 1.0 : 0.0));
    }
    tensors[name] = {std::move(shape), std::move(floats)};
  };
  const size_t hidden = config.hidden_size;
  add("model.embed_tokens.weight", {ModelConfig::kVocabulary, hidden});
  for (size_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    add(prefix + "input_layernorm.weight", {hidden});
    add(prefix + "self_attn.q_proj.weight", {config.query_size(), hidden});
    add(prefix + "self_attn.k_proj.weight", {config.key_value_size(), hidden});
    add(prefix + "self_attn.v_proj.weight", {config.key_value_size(), hidden});
    add(prefix + "self_attn.o_proj.weight", {hidden, config.query_size()});
    add(prefix + "post_attention_layernorm.weight", {hidden});
    add(prefix + "mlp.gate_proj.weight", {config.intermediate_size, hidden});
    add(prefix + "mlp.up_proj.weight", {config.intermediate_size, hidden});
    add(prefix + "mlp.down_proj.weight", {hidden, config.intermediate_size});
  }
  add("model.norm.weight", {hidden});
  if (!config.tie_word_embeddings) add("lm_head.weight", {ModelConfig::kVocabulary, hidden});
  return tensors;
}

inline std::string ToSafetensors(const NamedFloats& tensors) {
  std::map<std::string, TestTensor> file;
  for (const auto& [name, tensor] : tensors)
    file[name] = {"F32", tensor.first, FloatBytes(tensor.second)};
  return WriteSafetensors(file);
}

class NaiveLlama {
 public:
  NaiveLlama(const ModelConfig& config, const NamedFloats& tensors)
      : config_(config), tensors_(tensors) {}

  // Logits after the last token. `round` is applied to each element of K and V before anything
  // reads it.
  std::vector<double> Logits(const std::vector<uint32_t>& tokens, double (*round)(double)) const {
    const size_t hidden = config_.hidden_size;
    std::vector<Row> x;
    for (const uint32_t token : tokens) {
      const std::vector<float>& table = tensors_.at("model.embed_tokens.weight").second;
      x.emplace_back(table.begin() + token * hidden, table.begin() + (token + 1) * hidden);
    }
    for (size_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
      const std::string prefix = absl::StrCat("model.layers.", layer, ".");
      Attention(prefix, x, round);
      for (Row& row : x) {
        const Row normed = Norm(prefix + "post_attention_layernorm.weight", row);
        Row gate = Multiply(prefix + "mlp.gate_proj.weight", normed);
        const Row up = Multiply(prefix + "mlp.up_proj.weight", normed);
        for (size_t i = 0; i < gate.size(); ++i)
          gate[i] = gate[i] / (1.0 + std::exp(-gate[i])) * up[i];
        Add(row, Multiply(prefix + "mlp.down_proj.weight", gate));
      }
    }
    return Multiply(config_.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight",
                    Norm("model.norm.weight", x.back()));
  }

 private:
  using Row = std::vector<double>;

  Row Multiply(const std::string& name, const Row& in) const {
    const auto& [shape, weights] = tensors_.at(name);
    Row out(shape[0], 0.0);
    for (size_t r = 0; r < shape[0]; ++r) {
      for (size_t c = 0; c < shape[1]; ++c) out[r] += weights[r * shape[1] + c] * in[c];
    }
    return out;
  }

  Row Norm(const std::string& name, const Row& in) const {
    double squares = 0;
    for (const double value : in) squares += value * value;
    const double inverse =
        1.0 / std::sqrt(squares / static_cast<double>(in.size()) + config_.rms_norm_eps);
    Row out = in;
    for (size_t i = 0; i < in.size(); ++i) out[i] *= inverse * tensors_.at(name).second[i];
    return out;
  }

  void Rotate(Row& heads, size_t position) const {
    const size_t size = config_.head_dim;
    for (size_t head = 0; head < heads.size(); head += size) {
      for (size_t i = 0; i < size / 2; ++i) {
        const double angle =
            static_cast<double>(position) *
            std::pow(config_.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(size));
        const double a = heads[head + i];
        const double b = heads[head + i + size / 2];
        heads[head + i] = a * std::cos(angle) - b * std::sin(angle);
        heads[head + i + size / 2] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }

  void Attention(const std::string& prefix, std::vector<Row>& x, double (*round)(double)) const {
    std::vector<Row> queries, keys, values;
    for (size_t t = 0; t < x.size(); ++t) {
      const Row normed = Norm(prefix + "input_layernorm.weight", x[t]);
      queries.push_back(Multiply(prefix + "self_attn.q_proj.weight", normed));
      keys.push_back(Multiply(prefix + "self_attn.k_proj.weight", normed));
      values.push_back(Multiply(prefix + "self_attn.v_proj.weight", normed));
      Rotate(queries.back(), t);
      Rotate(keys.back(), t);
      for (double& value : keys.back()) value = round(value);
      for (double& value : values.back()) value = round(value);
    }
    const size_t size = config_.head_dim;
    for (size_t t = 0; t < x.size(); ++t) {
      Row attended(config_.query_size(), 0.0);
      for (size_t head = 0; head < config_.num_attention_heads; ++head) {
        const size_t shared = head * config_.num_key_value_heads / config_.num_attention_heads;
        Row weights;
        double sum = 0;
        for (size_t s = 0; s <= t; ++s) {
          double score = 0;
          for (size_t i = 0; i < size; ++i)
            score += queries[t][head * size + i] * keys[s][shared * size + i];
          weights.push_back(std::exp(score / std::sqrt(static_cast<double>(size))));
          sum += weights.back();
        }
        for (size_t s = 0; s <= t; ++s) {
          for (size_t i = 0; i < size; ++i) {
            attended[head * size + i] += weights[s] / sum * values[s][shared * size + i];
          }
        }
      }
      Add(x[t], Multiply(prefix + "self_attn.o_proj.weight", attended));
    }
  }

  static void Add(Row& into, const Row& from) {
    for (size_t i = 0; i < into.size(); ++i) into[i] += from[i];
  }

  const ModelConfig& config_;
  const NamedFloats& tensors_;
};

}  // namespace kvtier::examples
