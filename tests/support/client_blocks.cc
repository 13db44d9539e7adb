#include "tests/support/client_blocks.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tiering/base/rng.h"
#include "tiering/base/status_macros.h"

namespace kvtier::test_support {

ModelGeometry UnequalModel(absl::string_view name) {
  ModelGeometry model;
  model.name = std::string(name);
  model.revision = "1";
  model.data_type = "bytes";
  model.layout_version = "1";
  model.chunk_tokens = 16;
  model.planes = {{.name = "layer.0.k", .bytes_per_chunk = 5'000},
                  {.name = "layer.0.v", .bytes_per_chunk = 600},
                  {.name = "layer.1.kv", .layer = 1, .bytes_per_chunk = 14'001}};
  return model;
}

ModelGeometry RankedModel() {
  ModelGeometry model = UnequalModel("two ranks");
  for (PlaneGeometry& plane : model.planes) plane.rank = 0;
  model.planes.back().rank = 1;
  return model;
}

std::vector<uint32_t> ChainTokens(uint64_t seed, size_t count) {
  Rng rng(seed);
  std::vector<uint32_t> tokens(count);
  for (uint32_t& token : tokens) token = static_cast<uint32_t>(rng.Below(128'000));
  return tokens;
}

std::vector<Key> ChainKeys(const Model& model, uint64_t seed, size_t chunks, uint32_t tail_tokens) {
  const size_t chunk_tokens = model.geometry().chunk_tokens;
  const size_t missing = tail_tokens == 0 ? 0 : chunk_tokens - tail_tokens;
  return model.PrefixKeys(ChainTokens(seed, chunks * chunk_tokens - missing));
}

std::vector<std::byte> BlockBytes(const Key& key, uint32_t plane, uint64_t bytes) {
  uint64_t words[2];
  std::memcpy(words, key.data(), sizeof words);
  Rng rng(words[0] ^ Rng(words[1] ^ plane).Next());
  std::vector<std::byte> content(bytes);
  for (size_t i = 0; i < content.size(); i += 8) {
    const uint64_t word = rng.Next();
    std::memcpy(content.data() + i, &word, std::min<size_t>(8, content.size() - i));
  }
  return content;
}

std::string KeyHex(const Key& key) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(key.data()), key.size()));
}

absl::StatusOr<Key> KeyFromHex(absl::string_view hex) {
  Key key{};
  const bool digits =
      std::all_of(hex.begin(), hex.end(), [](char c) { return absl::ascii_isxdigit(c); });
  if (hex.size() != 2 * key.size() || !digits)
    return absl::InvalidArgumentError(absl::StrCat("no key: ", hex));
  const std::string bytes = absl::HexStringToBytes(hex);
  std::memcpy(key.data(), bytes.data(), key.size());
  return key;
}

absl::StatusOr<ReservationHandle> ReserveChunks(Client& client, const Model& model,
                                                const ChainPart& part) {
  return client.Reserve(
      {.model = model, .parent = part.parent(), .chunk_count = static_cast<uint32_t>(part.count)});
}

absl::Status PutBlocks(Client& client, const Model& model, ReservationHandle reservation,
                       const ChainPart& part, size_t begin, size_t end) {
  const auto& planes = model.geometry().planes;
  std::vector<std::vector<std::byte>> contents;
  PutRequest put{.model = model, .reservation = reservation};
  for (size_t block = begin; block < end; ++block) {
    const auto chunk = static_cast<uint32_t>(block / planes.size());
    const auto plane = static_cast<uint32_t>(block % planes.size());
    contents.push_back(
        BlockBytes(part.keys[part.first + chunk], plane, planes[plane].bytes_per_chunk));
    const std::vector<std::byte>& bytes = contents.back();
    const size_t head = bytes.size() / 7;
    const size_t middle = bytes.size() / 2;
    put.blocks.push_back({.chunk = chunk,
                          .plane = plane,
                          .pieces = {{bytes.data(), head},
                                     {bytes.data() + head, middle - head},
                                     {bytes.data() + middle, bytes.size() - middle}}});
  }
  return client.Put(std::move(put));
}

absl::StatusOr<std::vector<CommitResult>> CommitChunks(Client& client, const Model& model,
                                                       ReservationHandle reservation,
                                                       const ChainPart& part, size_t count,
                                                       const std::vector<uint32_t>& planes) {
  CommitRequest commit{.model = model, .reservation = reservation};
  for (size_t i = 0; i < count; ++i) {
    const bool tail = part.tail_tokens != 0 && part.first + i + 1 == part.keys.size();
    commit.chunks.push_back({.chunk = static_cast<uint32_t>(i),
                             .key = part.keys[part.first + i],
                             .token_count = tail ? part.tail_tokens : model.geometry().chunk_tokens,
                             .planes = planes});
  }
  return client.Commit(std::move(commit));
}

absl::StatusOr<std::vector<CommitResult>> StoreChunks(Client& client, const Model& model,
                                                      const ChainPart& part) {
  KVTIER_ASSIGN_OR_RETURN(const ReservationHandle reservation, ReserveChunks(client, model, part));
  KVTIER_RETURN_IF_ERROR(
      PutBlocks(client, model, reservation, part, 0, part.count * model.geometry().planes.size()));
  return CommitChunks(client, model, reservation, part, part.count);
}

absl::Status ReadLease(Client& client, const Model& model, LeaseHandle lease,
                       absl::Span<const Key> keys, uint32_t chunks) {
  const auto& planes = model.geometry().planes;
  std::vector<std::vector<std::byte>> contents;
  GetRequest get{.model = model, .lease = lease};
  for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
    for (uint32_t plane = 0; plane < planes.size(); ++plane) {
      contents.emplace_back(planes[plane].bytes_per_chunk);
      std::vector<std::byte>& bytes = contents.back();
      const size_t head = bytes.size() / 3;
      get.blocks.push_back(
          {.chunk = chunk,
           .plane = plane,
           .pieces = {{bytes.data(), head}, {bytes.data() + head, bytes.size() - head}}});
    }
  }
  KVTIER_ASSIGN_OR_RETURN(const GetResult got, client.Get(std::move(get)));
  for (size_t i = 0; i < contents.size(); ++i) {
    const size_t chunk = i / planes.size();
    const auto plane = static_cast<uint32_t>(i % planes.size());
    KVTIER_RETURN_IF_ERROR(got.blocks[i].status);
    if (contents[i] != BlockBytes(keys[chunk], plane, contents[i].size())) {
      return absl::InternalError(absl::StrCat("chunk ", chunk, " (", KeyHex(keys[chunk]),
                                              ") plane ", plane, ": not the bytes of this block"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> ReadChunks(Client& client, const Model& model,
                                    absl::Span<const Key> keys) {
  KVTIER_ASSIGN_OR_RETURN(const Match match,
                          client.Lookup({.model = model, .keys = {keys.begin(), keys.end()}}));
  if (match.chunks == 0) return 0;
  KVTIER_RETURN_IF_ERROR(ReadLease(client, model, match.lease, keys, match.chunks));
  KVTIER_RETURN_IF_ERROR(client.Release(match.lease));
  return match.chunks;
}

absl::Status CompareInPlace(ReadSection& section, const Model& model, LeaseHandle lease,
                            absl::Span<const Key> keys, uint32_t first, uint32_t end) {
  std::vector<BlockView> views(model.geometry().planes.size());
  for (uint32_t chunk = first; chunk < end; ++chunk) {
    KVTIER_RETURN_IF_ERROR(section.ResolveChunk(lease, chunk, absl::MakeSpan(views)).status());
    for (uint32_t plane = 0; plane < views.size(); ++plane) {
      const BlockView& view = views[plane];
      const std::string block =
          absl::StrCat("chunk ", chunk, " (", KeyHex(keys[chunk]), ") plane ", plane);
      if (view.data == nullptr)
        return absl::Status(view.code, absl::StrCat(block, " has no address"));
      const std::vector<std::byte> expected = BlockBytes(keys[chunk], plane, view.bytes);
      if (std::memcmp(view.data, expected.data(), expected.size()) != 0)
        return absl::InternalError(absl::StrCat(block, ": not the bytes of this block"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> ReadChunksInPlace(Client& client, const Model& model,
                                           absl::Span<const Key> keys) {
  KVTIER_ASSIGN_OR_RETURN(const Match match,
                          client.Lookup({.model = model, .keys = {keys.begin(), keys.end()}}));
  if (match.chunks == 0) return 0;
  {
    KVTIER_ASSIGN_OR_RETURN(ReadSection section, client.EnterSection());
    KVTIER_RETURN_IF_ERROR(CompareInPlace(section, model, match.lease, keys, 0, match.chunks));
  }
  KVTIER_RETURN_IF_ERROR(client.Release(match.lease));
  return match.chunks;
}

}  // namespace kvtier::test_support
