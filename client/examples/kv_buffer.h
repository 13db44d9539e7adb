#pragma once

// The worker's own KV memory for one sequence: the block table an inference engine would have.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "client/examples/model_config.h"

namespace kvtier::examples {

enum class KvType { kFloat32, kBfloat16 };

const char* KvTypeName(KvType type);
std::optional<KvType> ParseKvType(std::string_view name);  // "fp32" or "bf16"

// How KV is cut. A chunk is `chunk_tokens` consecutive tokens. A plane is one layer's keys or one
// layer's values: plane 2 * layer holds K (after rotation), 2 * layer + 1 holds V. Inside a chunk's
// plane the order is [token][key-value head][head_dim].
struct KvGeometry {
  size_t chunk_tokens = 16;
  size_t layers = 0;
  size_t kv_heads = 0;
  size_t head_dim = 0;
  KvType type = KvType::kFloat32;

  static constexpr size_t kChunkTokensMax = 1024;

  // INVALID_ARGUMENT if `chunk_tokens` is not 1 to kChunkTokensMax.
  static absl::StatusOr<KvGeometry> Create(const ModelConfig& config, KvType type,
                                           size_t chunk_tokens);

  size_t planes() const { return 2 * layers; }
  size_t element_bytes() const { return type == KvType::kFloat32 ? 4 : 2; }
  size_t token_bytes() const { return kv_heads * head_dim * element_bytes(); }
  size_t plane_bytes() const { return chunk_tokens * token_bytes(); }
  size_t chunk_bytes() const { return planes() * plane_bytes(); }
  std::string plane_name(size_t plane) const;  // "layer.3.k"
};

// Chunks are allocated as tokens are appended and never move, so plane() pointers stay valid until
// the buffer goes. Bytes of tokens that were never written are zero. Not thread-safe.
class KvBuffer {
 public:
  explicit KvBuffer(const KvGeometry& geometry) : geometry_(geometry) {}

  const KvGeometry& geometry() const { return geometry_; }

  // Tokens whose KV is complete.
  size_t tokens() const { return tokens_; }
  size_t chunks() const { return chunks_.size(); }

  // Makes room for `tokens` in total; what is there stays.
  void Grow(size_t tokens);
  // Declares that the first `tokens` are complete; at most what Grow() made room for. Fewer than
  // before: the rest is forgotten and its bytes are zero again.
  void SetTokens(size_t tokens);

  std::span<std::byte> plane(size_t chunk, size_t plane) {
    return {chunks_[chunk].get() + plane * geometry_.plane_bytes(), geometry_.plane_bytes()};
  }
  std::span<const std::byte> plane(size_t chunk, size_t plane) const {
    return {chunks_[chunk].get() + plane * geometry_.plane_bytes(), geometry_.plane_bytes()};
  }

 private:
  KvGeometry geometry_;
  std::vector<std::unique_ptr<std::byte[]>> chunks_;
  size_t tokens_ = 0;
};

}  // namespace kvtier::examples
