#pragma once

// The shape of a Llama-style model: what `config.json` says of it, or what the command line asks
// for.

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvtier::examples {

// A plain value; thread-safe as such. A ModelConfig that passed Validate() may be used as array
// sizes: no product of its fields that a transformer needs overflows.
struct ModelConfig {
  // Each token is one byte of text, so the vocabulary has exactly this size.
  static constexpr size_t kVocabulary = 256;

  size_t hidden_size = 128;
  size_t num_hidden_layers = 8;
  size_t num_attention_heads = 4;
  size_t num_key_value_heads = 2;
  size_t head_dim = 32;
  size_t intermediate_size = 344;
  size_t max_position_embeddings = 65536;  // tokens, prompt and answer together
  float rms_norm_eps = 1e-5f;
  float rope_theta = 10000.0f;
  bool tie_word_embeddings = false;

  // INVALID_ARGUMENT names the field, its value and its limit.
  absl::Status Validate() const;

  size_t query_size() const { return num_attention_heads * head_dim; }
  size_t key_value_size() const { return num_key_value_heads * head_dim; }
  size_t parameters() const;
};

// Reads a Hugging Face `config.json`. Fields this transformer cannot honour (scaled RoPE, biases,
// another activation or vocabulary) are errors rather than ignored. `name` is used in messages
// only. The text may be anything: INVALID_ARGUMENT names the file, the field, the value and the
// limit.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json, const std::string& name);

}  // namespace kvtier::examples
