#pragma once

// All parameters of one model in memory, read from safetensors or drawn from a seed.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/examples/model_config.h"
#include "client/examples/safetensors.h"
#include "client/examples/tensor_ops.h"

namespace kvtier::examples {

struct LayerWeights {
  std::vector<float> attention_norm;  // input_layernorm
  PackedMatrix query, key, value, output;
  std::vector<float> mlp_norm;  // post_attention_layernorm
  PackedMatrix gate, up, down;
};

// Immutable once made, so any number of threads may read it.
struct Weights {
  ModelConfig config;
  std::vector<float> embedding;  // [kVocabulary][hidden_size]
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;
  PackedMatrix vocabulary;  // lm_head; the embedding itself where the configuration ties them
  // Hex of a 128-bit hash of the configuration and of every parameter: two workers share KV only if
  // these are equal, wherever the parameters came from.
  std::string fingerprint;
};

// Upper limit of parameters drawn from a seed and of bytes read from a file.
inline constexpr size_t kRandomParametersMax = size_t{1} << 28;
inline constexpr size_t kModelFileBytesMax = size_t{16} << 30;

// Draws all parameters from `seed`. The scales keep greedy decoding varied: see the source.
// INVALID_ARGUMENT if `config` is not valid or has more than kRandomParametersMax parameters.
absl::StatusOr<Weights> RandomWeights(const ModelConfig& config, uint64_t seed);

// Takes the parameters by their Hugging Face Llama names ("model.layers.0.self_attn.q_proj.weight",
// ...). INVALID_ARGUMENT names a tensor that is missing, of another shape or type, or holds a
// number that is not finite. Tensors with other names are ignored, as `rotary_emb.inv_freq` of old
// files must be.
absl::StatusOr<Weights> WeightsFromTensors(const ModelConfig& config,
                                           const SafetensorsFile& tensors);

// Reads `directory`/config.json and `directory`/model.safetensors. NOT_FOUND names a file that
// cannot be opened; otherwise the errors of ParseModelConfig, ParseSafetensors and
// WeightsFromTensors.
absl::StatusOr<Weights> LoadWeights(const std::string& directory);

}  // namespace kvtier::examples
