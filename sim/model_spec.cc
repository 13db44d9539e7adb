#include "sim/model_spec.h"

#include "absl/strings/str_cat.h"

namespace kvtier::sim {
namespace {

using Wide = unsigned __int128;
constexpr Wide kSumMax = Wide{1} << 62;

absl::Status Problem(const ModelSpec& model, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(model.name, ": ", what));
}

absl::Status CheckRange(const ModelSpec& model, absl::string_view field, uint64_t value,
                        uint64_t min, uint64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return Problem(model, absl::StrCat(field, " is ", value, "; ", min, " to ", max, " is needed"));
}

}  // namespace

absl::Status CheckModel(const ModelSpec& model) {
  struct Range {
    absl::string_view field;
    uint64_t value, min, max;
  };
  const bool grouped = model.kv_heads > 0;
  const Range ranges[] = {
      {"layers", model.layers, 1, 1024},
      {"query_heads", model.query_heads, 1, 4096},
      {"kv_heads", model.kv_heads, 0, 4096},
      {"head_dim", model.head_dim, uint64_t{grouped}, grouped ? uint64_t{4096} : 0},
      {"latent_dim", model.latent_dim, uint64_t{!grouped}, grouped ? 0 : uint64_t{65'536}},
      {"bytes_per_value", model.bytes_per_value, 1, 8},
      {"score_dim", model.score_dim, 1, 65'536},
      {"value_dim", model.value_dim, 1, 65'536},
      {"weight_bytes", model.weight_bytes, 1, uint64_t{1} << 50},
      {"pass_weight_bytes", model.pass_weight_bytes, 1, model.weight_bytes},
      {"active_parameters", model.active_parameters, 1, uint64_t{1} << 50}};
  for (const Range& range : ranges) {
    absl::Status status = CheckRange(model, range.field, range.value, range.min, range.max);
    if (!status.ok()) return status;
  }
  const Wide bytes = Wide{model.layers} * model.bytes_per_value *
                     (grouped ? Wide{2} * model.kv_heads * model.head_dim : Wide{model.latent_dim});
  if (bytes * kPromptTokensMax > kSumMax)
    return Problem(model, absl::StrCat("a prompt of ", kPromptTokensMax,
                                       " tokens would have a cache of more than 2^62 bytes"));
  const Wide pair =
      Wide{2} * model.layers * model.query_heads * (Wide{model.score_dim} + model.value_dim);
  const Wide flops = Wide{kPromptTokensMax} * 2 * model.active_parameters +
                     Wide{kPromptTokensMax} * (kPromptTokensMax + 1) / 2 * pair;
  if (flops > kSumMax)
    return Problem(model, absl::StrCat("a prompt of ", kPromptTokensMax,
                                       " tokens would need more than 2^62 operations"));
  return absl::OkStatus();
}

}  // namespace kvtier::sim
