#include "client/examples/kv_table.h"

#include <algorithm>
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

size_t KvTable::used_tokens(size_t chunk) const {
  const size_t first = chunk * geometry_.chunk_tokens;
  return first >= tokens_ ? 0 : std::min(geometry_.chunk_tokens, tokens_ - first);
}

void KvTable::Append() {
  chunks_.emplace_back();
  addresses_.resize(chunks_.size() * geometry_.planes(), nullptr);
  reads_.resize(addresses_.size());
}

void KvTable::Own(size_t chunk) {
  chunks_[chunk].memory = ChunkMemory::kOwn;
  chunks_[chunk].own = std::make_unique<std::byte[]>(geometry_.chunk_bytes());
  for (size_t p = 0; p < geometry_.planes(); ++p) {
    addresses_[chunk * geometry_.planes() + p] =
        chunks_[chunk].own.get() + p * geometry_.plane_bytes();
  }
}

void KvTable::Grow(size_t tokens) {
  if (tokens > tokens_ && tokens_ % geometry_.chunk_tokens != 0) {
    const size_t partial = tokens_ / geometry_.chunk_tokens;
    if (!writable(partial)) Keep(partial);
  }
  const size_t needed = (tokens + geometry_.chunk_tokens - 1) / geometry_.chunk_tokens;
  while (chunks_.size() < needed) {
    Append();
    Own(chunks_.size() - 1);
  }
}

void KvTable::SetTokens(size_t tokens) {
  KVTIER_CHECK(tokens <= chunks_.size() * geometry_.chunk_tokens);
  tokens_ = tokens;
}

void KvTable::Truncate(size_t tokens) {
  SetTokens(tokens);
  chunks_.resize((tokens + geometry_.chunk_tokens - 1) / geometry_.chunk_tokens);
  addresses_.resize(chunks_.size() * geometry_.planes());
  reads_.resize(addresses_.size());
  if (tokens % geometry_.chunk_tokens == 0 || !writable(chunks_.size() - 1)) return;
  // A partial chunk is stored with its tail; zeros keep its bytes a function of its tokens.
  const size_t used_bytes = tokens % geometry_.chunk_tokens * geometry_.token_bytes();
  for (size_t p = 0; p < geometry_.planes(); ++p) {
    const std::span<std::byte> tail = writable_plane(chunks_.size() - 1, p).subspan(used_bytes);
    std::memset(tail.data(), 0, tail.size());
  }
}

std::span<std::byte> KvTable::writable_plane(size_t chunk, size_t plane) {
  KVTIER_CHECK(writable(chunk));
  // Own memory and that of Place: neither is const.
  return {const_cast<std::byte*>(addresses_[chunk * geometry_.planes() + plane]),
          geometry_.plane_bytes()};
}

void KvTable::PointTo(size_t chunk, size_t plane, const std::byte* address) {
  const size_t block = chunk * geometry_.planes() + plane;
  // A chunk that was written here may be read from another worker's copy: that is no move.
  if (memory(chunk) == ChunkMemory::kViewed && addresses_[block] != address) {
    ++counts_.moves;
    reads_[block].moved = reads_[block].read;
  }
  addresses_[block] = address;
}

void KvTable::View(size_t chunk, std::span<const std::byte* const> planes) {
  KVTIER_CHECK(planes.size() == geometry_.planes() && chunk <= chunks_.size());
  if (chunk == chunks_.size()) Append();
  for (size_t p = 0; p < planes.size(); ++p) PointTo(chunk, p, planes[p]);
  chunks_[chunk].memory = ChunkMemory::kViewed;
  chunks_[chunk].own = nullptr;
}

void KvTable::Place(size_t chunk, std::span<std::byte* const> planes) {
  const size_t used_bytes = used_tokens(chunk) * geometry_.token_bytes();
  KVTIER_CHECK(planes.size() == geometry_.planes() && chunk <= chunks_.size());
  KVTIER_CHECK(used_bytes < geometry_.plane_bytes());
  if (chunk == chunks_.size()) Append();
  for (size_t p = 0; p < planes.size(); ++p) {
    if (used_bytes > 0) std::memcpy(planes[p], plane(chunk, p).data(), used_bytes);
    std::memset(planes[p] + used_bytes, 0, geometry_.plane_bytes() - used_bytes);
    addresses_[chunk * geometry_.planes() + p] = planes[p];
  }
  counts_.bytes_copied += planes.size() * used_bytes;
  chunks_[chunk].memory = ChunkMemory::kPlaced;
  chunks_[chunk].own = nullptr;
}

void KvTable::Keep(size_t chunk) {
  if (memory(chunk) == ChunkMemory::kOwn) return;
  KVTIER_CHECK(memory(chunk) != ChunkMemory::kLost);
  const size_t used_bytes = used_tokens(chunk) * geometry_.token_bytes();
  std::vector<const std::byte*> from;
  for (size_t p = 0; p < geometry_.planes(); ++p) from.push_back(plane(chunk, p).data());
  Own(chunk);
  for (size_t p = 0; p < geometry_.planes(); ++p)
    std::memcpy(writable_plane(chunk, p).data(), from[p], used_bytes);
  counts_.bytes_copied += geometry_.planes() * used_bytes;
}

void KvTable::Lose(size_t chunk, const absl::Status& why) {
  KVTIER_CHECK(chunk <= chunks_.size());
  if (chunk == chunks_.size()) {
    Append();
  } else if (memory(chunk) == ChunkMemory::kOwn || memory(chunk) == ChunkMemory::kLost) {
    return;
  }
  losses_.push_back(why);
  chunks_[chunk].memory = ChunkMemory::kLost;
  const size_t first = chunk * geometry_.planes();
  for (size_t p = 0; p < geometry_.planes(); ++p) {
    addresses_[first + p] = nullptr;
    reads_[first + p].moved = false;
  }
}

void KvTable::Renew(size_t chunk) {
  KVTIER_CHECK(memory(chunk) == ChunkMemory::kLost);
  Own(chunk);
}

void KvTable::NoteRead() {
  const size_t read = (tokens_ + geometry_.chunk_tokens - 1) / geometry_.chunk_tokens;
  for (size_t block = 0; block < read * geometry_.planes(); ++block) {
    BlockReads& reads = reads_[block];
    if (!reads.viewed && memory(block / geometry_.planes()) == ChunkMemory::kViewed) {
      reads.viewed = true;
      ++counts_.blocks_viewed;
    }
    if (reads.moved && !reads.counted) {
      reads.counted = true;
      ++counts_.moved_between_reads;
    }
    reads.read = true;
    reads.moved = false;
  }
}

}  // namespace kvtier::examples
