#include "client/examples/model_config.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/examples/tensor_ops.h"
#include "tiering/base/status_macros.h"

namespace kvtier::examples {
namespace {

using Json = nlohmann::json;

// Far above any model that a CPU decodes, and small enough that every product stays below 2^64.
constexpr size_t kHiddenMax = 65536;
constexpr size_t kIntermediateMax = 262144;
constexpr size_t kLayersMax = 1024;
constexpr size_t kHeadsMax = 1024;
constexpr size_t kHeadDimMax = 1024;
constexpr size_t kPositionsMax = size_t{1} << 24;
constexpr size_t kConfigBytesMax = size_t{1} << 20;

absl::Status CheckRange(const char* field, size_t value, size_t low, size_t high) {
  if (value < low || value > high) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, " is ", value, "; allowed: ", low, " to ", high));
  }
  return absl::OkStatus();
}

absl::Status CheckMultiple(const char* field, size_t value, size_t of) {
  if (value % of != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, " is ", value, "; it must be a multiple of ", of));
  }
  return absl::OkStatus();
}

// Reads single fields of one JSON object; errors name the file and the field.
class FieldReader {
 public:
  FieldReader(const Json& object, const std::string& name) : object_(object), name_(name) {}

  bool Has(const char* field) const {
    const auto found = object_.find(field);
    return found != object_.end() && !found->is_null();
  }

  absl::Status Count(const char* field, bool required, size_t* value) const {
    if (!Has(field)) return required ? Missing(field) : absl::OkStatus();
    const Json& found = object_.at(field);
    if (!found.is_number_unsigned()) return Wrong(field, "a whole number of at least 0");
    *value = static_cast<size_t>(found.get<uint64_t>());
    return absl::OkStatus();
  }

  absl::Status Positive(const char* field, double high, float* value) const {
    if (!Has(field)) return absl::OkStatus();
    const Json& found = object_.at(field);
    const double number = found.is_number() ? found.get<double>() : -1.0;
    if (!(number > 0.0) || number > high) {
      return Wrong(field, absl::StrCat("a number above 0 and up to ", high));
    }
    *value = static_cast<float>(number);
    return absl::OkStatus();
  }

  absl::Status Flag(const char* field, bool* value) const {
    if (!Has(field)) return absl::OkStatus();
    if (!object_.at(field).is_boolean()) return Wrong(field, "true or false");
    *value = object_.at(field).get<bool>();
    return absl::OkStatus();
  }

  absl::Status NotSet(const char* field) const {
    if (!Has(field) || object_.at(field) == Json(false)) return absl::OkStatus();
    return Wrong(field, "absent, null or false: this transformer does not implement it");
  }

  absl::Status OneOf(const char* field, std::initializer_list<const char*> allowed) const {
    if (!Has(field)) return absl::OkStatus();
    std::string list;
    for (const char* candidate : allowed) {
      if (object_.at(field) == Json(candidate)) return absl::OkStatus();
      absl::StrAppend(&list, list.empty() ? "" : ", ", candidate);
    }
    return Wrong(field, absl::StrCat("one of: ", list));
  }

 private:
  absl::Status Missing(const char* field) const {
    return absl::InvalidArgumentError(absl::StrCat(name_, ": field ", field, " is missing"));
  }

  absl::Status Wrong(const char* field, const std::string& expected) const {
    // Hostile values may be long or not UTF-8; both are cut down to something printable.
    std::string shown = object_.at(field).dump(-1, ' ', true, Json::error_handler_t::replace);
    if (shown.size() > 60) shown = absl::StrCat(shown.substr(0, 57), "...");
    return absl::InvalidArgumentError(
        absl::StrCat(name_, ": field ", field, " is ", shown, "; expected ", expected));
  }

  const Json& object_;
  const std::string& name_;
};

}  // namespace

absl::Status ModelConfig::Validate() const {
  KVTIER_RETURN_IF_ERROR(CheckRange("hidden_size", hidden_size, 1, kHiddenMax));
  KVTIER_RETURN_IF_ERROR(CheckMultiple("hidden_size", hidden_size, kVectorWidth));
  KVTIER_RETURN_IF_ERROR(CheckRange("num_hidden_layers", num_hidden_layers, 1, kLayersMax));
  KVTIER_RETURN_IF_ERROR(CheckRange("num_attention_heads", num_attention_heads, 1, kHeadsMax));
  KVTIER_RETURN_IF_ERROR(
      CheckRange("num_key_value_heads", num_key_value_heads, 1, num_attention_heads));
  if (num_attention_heads % num_key_value_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "num_attention_heads is ", num_attention_heads,
        "; it must be a multiple of num_key_value_heads, which is ", num_key_value_heads));
  }
  KVTIER_RETURN_IF_ERROR(CheckRange("head_dim", head_dim, 1, kHeadDimMax));
  // Both halves of a head are processed four wide.
  KVTIER_RETURN_IF_ERROR(CheckMultiple("head_dim", head_dim, 2 * kVectorWidth));
  KVTIER_RETURN_IF_ERROR(CheckRange("intermediate_size", intermediate_size, 1, kIntermediateMax));
  KVTIER_RETURN_IF_ERROR(CheckMultiple("intermediate_size", intermediate_size, kVectorWidth));
  KVTIER_RETURN_IF_ERROR(
      CheckRange("max_position_embeddings", max_position_embeddings, 1, kPositionsMax));
  if (!(rms_norm_eps > 0.0f) || rms_norm_eps > 1.0f) {
    return absl::InvalidArgumentError(
        absl::StrCat("rms_norm_eps is ", rms_norm_eps, "; it must be above 0 and at most 1"));
  }
  if (!(rope_theta >= 1.0f) || rope_theta > 1e12f) {
    return absl::InvalidArgumentError(
        absl::StrCat("rope_theta is ", rope_theta, "; it must be at least 1 and at most 1e12"));
  }
  return absl::OkStatus();
}

size_t ModelConfig::parameters() const {
  const size_t attention = 2 * hidden_size * query_size() + 2 * hidden_size * key_value_size();
  const size_t layer = attention + 3 * hidden_size * intermediate_size + 2 * hidden_size;
  const size_t ends = (tie_word_embeddings ? 1 : 2) * kVocabulary * hidden_size + hidden_size;
  return num_hidden_layers * layer + ends;
}

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json, const std::string& name) {
  if (json.size() > kConfigBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", json.size(), " bytes; at most ", kConfigBytesMax, " are read"));
  }
  // JSON leaves open which one of two equal fields counts.
  std::set<std::string> seen;
  std::string repeated;
  const auto note_field = [&](int depth, Json::parse_event_t event, Json& field) {
    if (depth == 1 && event == Json::parse_event_t::key) {
      if (!seen.insert(field.get<std::string>()).second) repeated = field.get<std::string>();
    }
    return true;
  };
  const Json object = Json::parse(json.begin(), json.end(), note_field, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not a JSON object"));
  }
  if (!repeated.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": field ", repeated.substr(0, 60), " is given twice"));
  }
  const FieldReader fields(object, name);
  ModelConfig config;
  size_t vocabulary = 0;
  KVTIER_RETURN_IF_ERROR(fields.OneOf("model_type", {"llama"}));
  KVTIER_RETURN_IF_ERROR(fields.OneOf("hidden_act", {"silu"}));
  KVTIER_RETURN_IF_ERROR(fields.OneOf("torch_dtype", {"float32", "bfloat16", "float16"}));
  for (const char* field : {"rope_scaling", "rope_parameters", "partial_rotary_factor",
                            "attention_bias", "mlp_bias", "sliding_window"}) {
    KVTIER_RETURN_IF_ERROR(fields.NotSet(field));
  }
  KVTIER_RETURN_IF_ERROR(fields.Count("vocab_size", true, &vocabulary));
  if (vocabulary != ModelConfig::kVocabulary) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": field vocab_size is ", vocabulary,
                                                   "; this worker reads text as bytes and needs ",
                                                   ModelConfig::kVocabulary));
  }
  KVTIER_RETURN_IF_ERROR(fields.Count("hidden_size", true, &config.hidden_size));
  KVTIER_RETURN_IF_ERROR(fields.Count("num_hidden_layers", true, &config.num_hidden_layers));
  KVTIER_RETURN_IF_ERROR(fields.Count("num_attention_heads", true, &config.num_attention_heads));
  KVTIER_RETURN_IF_ERROR(fields.Count("intermediate_size", true, &config.intermediate_size));
  config.num_key_value_heads = config.num_attention_heads;
  KVTIER_RETURN_IF_ERROR(fields.Count("num_key_value_heads", false, &config.num_key_value_heads));
  if (!fields.Has("head_dim")) {
    if (config.num_attention_heads == 0 || config.hidden_size % config.num_attention_heads != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": field head_dim is absent and hidden_size ", config.hidden_size,
                       " is not a multiple of num_attention_heads ", config.num_attention_heads));
    }
    config.head_dim = config.hidden_size / config.num_attention_heads;
  }
  KVTIER_RETURN_IF_ERROR(fields.Count("head_dim", false, &config.head_dim));
  KVTIER_RETURN_IF_ERROR(
      fields.Count("max_position_embeddings", false, &config.max_position_embeddings));
  KVTIER_RETURN_IF_ERROR(fields.Positive("rms_norm_eps", 1.0, &config.rms_norm_eps));
  KVTIER_RETURN_IF_ERROR(fields.Positive("rope_theta", 1e12, &config.rope_theta));
  KVTIER_RETURN_IF_ERROR(fields.Flag("tie_word_embeddings", &config.tie_word_embeddings));
  if (const absl::Status valid = config.Validate(); !valid.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", valid.message()));
  }
  return config;
}

}  // namespace kvtier::examples
