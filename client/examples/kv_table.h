#pragma once

// The block table of one sequence: where the KV of each chunk and plane lies, be it in the worker's
// own memory or in a store's.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
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

  // `config` has passed Validate(), so the sizes below fit a size_t. INVALID_ARGUMENT if
  // `chunk_tokens` is not 1 to kChunkTokensMax.
  static absl::StatusOr<KvGeometry> Create(const ModelConfig& config, KvType type,
                                           size_t chunk_tokens);

  size_t planes() const { return 2 * layers; }
  size_t element_bytes() const { return type == KvType::kFloat32 ? 4 : 2; }
  size_t token_bytes() const { return kv_heads * head_dim * element_bytes(); }
  size_t plane_bytes() const { return chunk_tokens * token_bytes(); }
  size_t chunk_bytes() const { return planes() * plane_bytes(); }
  std::string plane_name(size_t plane) const;  // "layer.3.k"
};

enum class ChunkMemory : uint8_t {
  kOwn,     // the worker's
  kPlaced,  // a store's, reserved: read and written in place
  kViewed,  // a store's, leased: read in place, its blocks may move
  kLost,    // it was a store's and cannot be read any more: compute it again
};

// Chunks of own memory are allocated as tokens are appended and never move. Memory of a store may
// be touched only while the store says so (KvStore::BeginStep). In a writable chunk the bytes of
// tokens that were never written are zero, so that a partial chunk's bytes follow from its tokens.
// Not thread-safe.
class KvTable {
 public:
  struct Counts {
    uint64_t bytes_fetched = 0;        // copied into own memory because they were leased
    uint64_t bytes_copied = 0;         // other bytes copied between own memory and a store's
    uint64_t blocks_viewed = 0;        // blocks that were read in place, each once
    uint64_t moves = 0;                // blocks found at another address than before
    uint64_t moved_between_reads = 0;  // blocks read both before and after a move, each once
  };

  explicit KvTable(const KvGeometry& geometry) : geometry_(geometry) {}

  const KvGeometry& geometry() const { return geometry_; }

  // Tokens whose KV is complete.
  size_t tokens() const { return tokens_; }
  size_t chunks() const { return chunks_.size(); }
  ChunkMemory memory(size_t chunk) const { return chunks_[chunk].memory; }
  bool writable(size_t chunk) const {
    return memory(chunk) == ChunkMemory::kOwn || memory(chunk) == ChunkMemory::kPlaced;
  }

  // Makes room for `tokens` in total, in own memory where no chunk is yet; what is there stays. A
  // partial chunk at the end that is only viewed is copied, for it will be written.
  void Grow(size_t tokens);
  // Declares that the first `tokens` are complete; there are chunks for them. Forgets nothing.
  void SetTokens(size_t tokens);
  // The same, and what comes after is forgotten.
  void Truncate(size_t tokens);

  std::span<const std::byte> plane(size_t chunk, size_t plane) const {
    return {addresses_[chunk * geometry_.planes() + plane], geometry_.plane_bytes()};
  }
  std::span<std::byte> writable_plane(size_t chunk, size_t plane);

  // A chunk, or the next one, is read there from now on, an address for each plane.
  void View(size_t chunk, std::span<const std::byte* const> planes);
  // The next chunk, or the last one if it is partial, is written and read there from now on.
  void Place(size_t chunk, std::span<std::byte* const> planes);
  // Copies a store's chunk into own memory.
  void Keep(size_t chunk);
  // A store's chunk, or the next one, cannot be read. Own memory stays as it is.
  void Lose(size_t chunk, const absl::Status& why);
  // Gives a lost chunk own memory, all zero.
  void Renew(size_t chunk);

  // Why blocks were lost since the last call.
  std::vector<absl::Status> TakeLosses() { return std::exchange(losses_, {}); }

  // All complete chunks were read: attention reads every one.
  void NoteRead();
  // Bytes of leased chunks that a store copied into own memory.
  void NoteFetched(uint64_t bytes) { counts_.bytes_fetched += bytes; }
  const Counts& counts() const { return counts_; }

 private:
  struct Chunk {
    ChunkMemory memory = ChunkMemory::kOwn;
    std::unique_ptr<std::byte[]> own;
  };
  struct BlockReads {
    bool read = false;
    bool moved = false;    // since it was read
    bool counted = false;  // in moved_between_reads
    bool viewed = false;   // counted in blocks_viewed
  };

  // Tokens of the chunk that are complete.
  size_t used_tokens(size_t chunk) const;
  void Append();
  void Own(size_t chunk);
  void PointTo(size_t chunk, size_t plane, const std::byte* address);

  KvGeometry geometry_;
  std::vector<Chunk> chunks_;
  std::vector<const std::byte*> addresses_;  // [chunk][plane]; null: lost
  std::vector<BlockReads> reads_;            // likewise
  size_t tokens_ = 0;
  std::vector<absl::Status> losses_;
  Counts counts_;
};

}  // namespace kvtier::examples
