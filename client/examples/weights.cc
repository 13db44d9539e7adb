#include "client/examples/weights.h"

#include <xxhash.h>

#include <cmath>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/examples/file_bytes.h"
#include "tiering/base/check.h"
#include "tiering/base/rng.h"
#include "tiering/base/status_macros.h"

namespace kvtier::examples {
namespace {

// What a tensor is for; random weights are scaled by it.
enum class Role { kEmbedding, kNorm, kQueryKey, kValue, kOutput, kGateUp, kDown, kVocabulary };

using Shape = std::vector<size_t>;

// Gives the elements of one named tensor, row-major. Tensors are asked for once each, in a fixed
// order.
using Source = std::function<absl::StatusOr<std::vector<float>>(const std::string& name,
                                                                const Shape& shape, Role role)>;

// Asks a source for tensors and hashes what it hands out.
class Builder {
 public:
  explicit Builder(const Source& source) : source_(source), hash_(XXH3_createState()) {
    KVTIER_CHECK(hash_ != nullptr);
    XXH3_128bits_reset(hash_.get());
  }

  absl::Status Vector(const std::string& name, const Shape& shape, Role role,
                      std::vector<float>* into) {
    KVTIER_ASSIGN_OR_RETURN(*into, source_(name, shape, role));
    for (size_t i = 0; i < into->size(); ++i) {
      if (!std::isfinite((*into)[i])) {
        return absl::InvalidArgumentError(absl::StrCat("weights: tensor ", name, ": element ", i,
                                                       " is ", (*into)[i], "; all must be finite"));
      }
    }
    XXH3_128bits_update(hash_.get(), into->data(), into->size() * sizeof(float));
    return absl::OkStatus();
  }

  absl::Status Matrix(const std::string& name, size_t rows, size_t columns, Role role,
                      PackedMatrix* into) {
    std::vector<float> elements;
    KVTIER_RETURN_IF_ERROR(Vector(name, {rows, columns}, role, &elements));
    *into = PackedMatrix(elements, rows, columns);
    return absl::OkStatus();
  }

  // `layout` names everything besides the parameters that changes what KV means.
  std::string Fingerprint(const std::string& layout) {
    XXH3_128bits_update(hash_.get(), layout.data(), layout.size());
    const XXH128_hash_t digest = XXH3_128bits_digest(hash_.get());
    return absl::StrFormat("%016x%016x", digest.high64, digest.low64);
  }

 private:
  const Source& source_;
  struct FreeState {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, FreeState> hash_;
};

absl::Status BuildLayer(const ModelConfig& config, size_t index, Builder& builder,
                        LayerWeights* layer) {
  const std::string prefix = absl::StrCat("model.layers.", index, ".");
  const size_t hidden = config.hidden_size;
  const size_t inner = config.intermediate_size;
  const size_t queries = config.query_size();
  const size_t keys = config.key_value_size();
  KVTIER_RETURN_IF_ERROR(builder.Vector(prefix + "input_layernorm.weight", {hidden}, Role::kNorm,
                                        &layer->attention_norm));
  const auto matrix = [&](const char* name, size_t rows, size_t columns, Role role,
                          PackedMatrix* into) {
    return builder.Matrix(absl::StrCat(prefix, name, ".weight"), rows, columns, role, into);
  };
  KVTIER_RETURN_IF_ERROR(
      matrix("self_attn.q_proj", queries, hidden, Role::kQueryKey, &layer->query));
  KVTIER_RETURN_IF_ERROR(matrix("self_attn.k_proj", keys, hidden, Role::kQueryKey, &layer->key));
  KVTIER_RETURN_IF_ERROR(matrix("self_attn.v_proj", keys, hidden, Role::kValue, &layer->value));
  KVTIER_RETURN_IF_ERROR(
      matrix("self_attn.o_proj", hidden, queries, Role::kOutput, &layer->output));
  KVTIER_RETURN_IF_ERROR(builder.Vector(prefix + "post_attention_layernorm.weight", {hidden},
                                        Role::kNorm, &layer->mlp_norm));
  KVTIER_RETURN_IF_ERROR(matrix("mlp.gate_proj", inner, hidden, Role::kGateUp, &layer->gate));
  KVTIER_RETURN_IF_ERROR(matrix("mlp.up_proj", inner, hidden, Role::kGateUp, &layer->up));
  return matrix("mlp.down_proj", hidden, inner, Role::kDown, &layer->down);
}

absl::StatusOr<Weights> Build(const ModelConfig& config, const Source& source) {
  KVTIER_RETURN_IF_ERROR(config.Validate());
  Builder builder(source);
  Weights weights;
  weights.config = config;
  const size_t hidden = config.hidden_size;
  KVTIER_RETURN_IF_ERROR(builder.Vector("model.embed_tokens.weight",
                                        {ModelConfig::kVocabulary, hidden}, Role::kEmbedding,
                                        &weights.embedding));
  // Layer by layer, so that a configuration that promises more layers than its file holds fails
  // before the memory for all of them is taken.
  for (size_t i = 0; i < config.num_hidden_layers; ++i) {
    LayerWeights layer;
    KVTIER_RETURN_IF_ERROR(BuildLayer(config, i, builder, &layer));
    weights.layers.push_back(std::move(layer));
  }
  KVTIER_RETURN_IF_ERROR(
      builder.Vector("model.norm.weight", {hidden}, Role::kNorm, &weights.final_norm));
  if (config.tie_word_embeddings) {
    weights.vocabulary = PackedMatrix(weights.embedding, ModelConfig::kVocabulary, hidden);
  } else {
    KVTIER_RETURN_IF_ERROR(builder.Matrix("lm_head.weight", ModelConfig::kVocabulary, hidden,
                                          Role::kVocabulary, &weights.vocabulary));
  }
  weights.fingerprint = builder.Fingerprint(absl::StrFormat(
      "llama layers=%d hidden=%d heads=%d/%d head_dim=%d inner=%d eps=%.9g theta=%.9g tied=%d",
      config.num_hidden_layers, hidden, config.num_attention_heads, config.num_key_value_heads,
      config.head_dim, config.intermediate_size, config.rms_norm_eps, config.rope_theta,
      config.tie_word_embeddings));
  return weights;
}

// Standard deviation times sqrt(inputs) of random weights. With the usual small initialisation a
// random transformer is nearly a function of its last token, and greedy decoding falls into a short
// cycle. Here what a token attends to outweighs the token itself:
//  * queries and keys are large, so attention scores have a standard deviation near 6 and a few
//  tokens take
//    most of the mass instead of all tokens being averaged away;
//  * what a layer adds is as large as what it was given, while the embedding starts small.
// The next byte then depends on the whole prefix, as in a trained model, and repeats only by
// chance.
double RandomGain(Role role) {
  switch (role) {
    case Role::kEmbedding:
      return 0.5;
    case Role::kNorm:
      return 0.0;  // all ones
    case Role::kQueryKey:
      return 2.4;
    case Role::kValue:
      return 1.0;
    case Role::kOutput:
      return 1.6;
    case Role::kGateUp:
      return 1.4;
    case Role::kDown:
      return 1.0;
    case Role::kVocabulary:
      return 1.0;
  }
  return 1.0;
}

std::vector<float> RandomTensor(const Shape& shape, Role role, Rng& rng) {
  size_t count = 1;
  for (const size_t dimension : shape) count *= dimension;
  std::vector<float> elements(count, 1.0f);
  if (role == Role::kNorm) return elements;
  // An embedding row is looked up, not summed over.
  const double inputs = role == Role::kEmbedding ? 1.0 : static_cast<double>(shape.back());
  const double scale = RandomGain(role) / std::sqrt(inputs);
  for (float& element : elements) {
    // The sum of four uniform numbers, centred: variance 1/3, close enough to normal, and exact
    // arithmetic on every machine.
    const double sum = rng.Unit() + rng.Unit() + rng.Unit() + rng.Unit() - 2.0;
    element = static_cast<float>(sum * 1.7320508075688772 * scale);
  }
  return elements;
}

}  // namespace

absl::StatusOr<Weights> RandomWeights(const ModelConfig& config, uint64_t seed) {
  KVTIER_RETURN_IF_ERROR(config.Validate());
  if (config.parameters() > kRandomParametersMax) {
    return absl::InvalidArgumentError(absl::StrCat("random weights: the model has ",
                                                   config.parameters(), " parameters; at most ",
                                                   kRandomParametersMax));
  }
  Rng rng(seed);
  return Build(config, [&rng](const std::string&, const Shape& shape, Role role) {
    return RandomTensor(shape, role, rng);
  });
}

absl::StatusOr<Weights> WeightsFromTensors(const ModelConfig& config,
                                           const SafetensorsFile& tensors) {
  std::set<std::string> used;
  absl::StatusOr<Weights> weights = Build(
      config,
      [&](const std::string& name, const Shape& shape, Role) -> absl::StatusOr<std::vector<float>> {
        const auto found = tensors.find(name);
        if (found == tensors.end()) {
          return absl::InvalidArgumentError(absl::StrCat(
              "weights: tensor ", name, " is missing from a file of ", tensors.size(), " tensors"));
        }
        used.insert(name);
        return TensorToFloats(found->second, shape, name);
      });
  KVTIER_RETURN_IF_ERROR(weights.status());
  // A model that has more is another one, and would be run wrongly.
  for (const auto& [name, tensor] : tensors) {
    if (used.count(name) != 0 || absl::EndsWith(name, "rotary_emb.inv_freq")) continue;
    const bool tied = config.tie_word_embeddings && name == "lm_head.weight" &&
                      tensor.bytes == tensors.at("model.embed_tokens.weight").bytes;
    if (tied) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("weights: tensor ", name, " is none that a model of ",
                     config.num_hidden_layers, " layers with this configuration has"));
  }
  return weights;
}

absl::StatusOr<Weights> LoadWeights(const std::string& directory) {
  const std::string config_path = absl::StrCat(directory, "/config.json");
  KVTIER_ASSIGN_OR_RETURN(const std::string json, ReadFileBytes(config_path, size_t{1} << 20));
  KVTIER_ASSIGN_OR_RETURN(const ModelConfig config, ParseModelConfig(json, config_path));
  const std::string path = absl::StrCat(directory, "/model.safetensors");
  KVTIER_ASSIGN_OR_RETURN(const std::string bytes, ReadFileBytes(path, kModelFileBytesMax));
  absl::StatusOr<SafetensorsFile> tensors = ParseSafetensors(std::string_view(bytes));
  absl::StatusOr<Weights> weights = tensors.ok() ? WeightsFromTensors(config, *tensors)
                                                 : absl::StatusOr<Weights>(tensors.status());
  if (!weights.ok()) {
    return absl::Status(weights.status().code(),
                        absl::StrCat(path, ": ", weights.status().message()));
  }
  return weights;
}

}  // namespace kvtier::examples
