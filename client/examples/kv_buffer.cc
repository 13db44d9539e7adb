#include "client/examples/kv_buffer.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "tiering/base/check.h"

namespace kvtier::examples {

const char* KvTypeName(KvType type) { return type == KvType::kFloat32 ? "fp32" : "bf16"; }

std::optional<KvType> ParseKvType(std::string_view name) {
  if (name == "fp32") return KvType::kFloat32;
  if (name == "bf16") return KvType::kBfloat16;
  return std::nullopt;
}

absl::StatusOr<KvGeometry> KvGeometry::Create(const ModelConfig& config, KvType type,
                                              size_t chunk_tokens) {
  if (chunk_tokens < 1 || chunk_tokens > kChunkTokensMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunk_tokens is ", chunk_tokens, "; allowed: 1 to ", kChunkTokensMax));
  }
  return KvGeometry{.chunk_tokens = chunk_tokens,
                    .layers = config.num_hidden_layers,
                    .kv_heads = config.num_key_value_heads,
                    .head_dim = config.head_dim,
                    .type = type};
}

std::string KvGeometry::plane_name(size_t plane) const {
  return absl::StrCat("layer.", plane / 2, plane % 2 == 0 ? ".k" : ".v");
}

void KvBuffer::Grow(size_t tokens) {
  const size_t needed = (tokens + geometry_.chunk_tokens - 1) / geometry_.chunk_tokens;
  while (chunks_.size() < needed)
    chunks_.push_back(std::make_unique<std::byte[]>(geometry_.chunk_bytes()));
}

void KvBuffer::SetTokens(size_t tokens) {
  KVTIER_CHECK(tokens <= chunks_.size() * geometry_.chunk_tokens);
  if (tokens < tokens_) {
    // A partial chunk is stored with its tail; zeros keep its bytes a function of its tokens.
    const size_t kept = (tokens + geometry_.chunk_tokens - 1) / geometry_.chunk_tokens;
    chunks_.resize(kept);
    const size_t used = tokens % geometry_.chunk_tokens;
    if (used != 0) {
      for (size_t p = 0; p < geometry_.planes(); ++p) {
        const std::span<std::byte> tail =
            plane(kept - 1, p).subspan(used * geometry_.token_bytes());
        std::memset(tail.data(), 0, tail.size());
      }
    }
  }
  tokens_ = tokens;
}

}  // namespace kvtier::examples
