#include "daemon/proto_convert.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/wire/version.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

constexpr size_t kExtraBytesMax = 64 * 1024;
constexpr size_t kEngineKeyBytesMax = 64 * 1024;
constexpr int kRecomputePointsMax = 1024;
// Ids are StrongIds of 16 bits; 65535 and up can never have been handed out.
constexpr uint32_t kSmallIdMax = std::numeric_limits<uint16_t>::max() - 1;

static_assert(sizeof(wire::ChunkKey) == wire::kChunkKeyBytes);

absl::Status CheckBytes(absl::string_view what, size_t bytes, size_t bytes_max) {
  if (bytes <= bytes_max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " has ", bytes, " bytes; at most ", bytes_max, " are allowed"));
}

absl::StatusOr<PlaneKind> KindFromProto(v1::PlaneKind kind, int plane) {
  switch (kind) {
    case v1::PLANE_KIND_ATTENTION:
      return PlaneKind::kAttention;
    case v1::PLANE_KIND_WINDOW:
      return PlaneKind::kWindow;
    case v1::PLANE_KIND_STATE:
      return PlaneKind::kState;
    case v1::PLANE_KIND_INDEX:
      return PlaneKind::kIndex;
    default:
      return absl::InvalidArgumentError(absl::StrCat("plane ", plane, " has kind ",
                                                     static_cast<int>(kind), "; 1 to 4 are known"));
  }
}

}  // namespace

v1::Version ProtocolVersion() {
  v1::Version version;
  version.set_major(wire::kProtocolMajor);
  version.set_minor(wire::kProtocolMinor);
  return version;
}

absl::Status CheckVersion(const v1::Version& version, absl::string_view who) {
  if (version.major() == wire::kProtocolMajor) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrFormat(
      "the %s speaks kvtier protocol %d.%d, this daemon %d.%d: the major versions must be the same",
      who, version.major(), version.minor(), wire::kProtocolMajor, wire::kProtocolMinor));
}

absl::StatusOr<wire::ChunkKey> KeyFromBytes(absl::string_view bytes, absl::string_view what,
                                            bool empty_is_zero) {
  wire::ChunkKey key;
  if (bytes.empty() && empty_is_zero) return key;
  if (bytes.size() != wire::kChunkKeyBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, " has ", bytes.size(), " bytes; a chunk key has ", wire::kChunkKeyBytes));
  }
  std::memcpy(key.bytes.data(), bytes.data(), bytes.size());
  return key;
}

absl::StatusOr<std::vector<wire::ChunkKey>> KeysFromBytes(absl::string_view bytes,
                                                          uint32_t keys_max) {
  const size_t count = bytes.size() / wire::kChunkKeyBytes;
  if (bytes.size() % wire::kChunkKeyBytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "keys has ", bytes.size(), " bytes, which is no multiple of ", wire::kChunkKeyBytes));
  }
  if (count > keys_max) {
    return absl::InvalidArgumentError(absl::StrCat("keys names ", count, " chunks; at most ",
                                                   keys_max, " are allowed in a call"));
  }
  std::vector<wire::ChunkKey> keys(count);
  if (count > 0) std::memcpy(keys.data(), bytes.data(), bytes.size());
  return keys;
}

std::string KeyToBytes(const wire::ChunkKey& key) {
  return std::string(reinterpret_cast<const char*>(key.bytes.data()), key.bytes.size());
}

bool NeedsScope(const v1::ChunkName& name) { return name.name_case() != v1::ChunkName::kKey; }

absl::StatusOr<NamedChunk> NameToKey(const v1::ChunkName& name, const wire::KeyScope& scope,
                                     std::optional<uint32_t> token_count) {
  NamedChunk chunk;
  switch (name.name_case()) {
    case v1::ChunkName::kKey: {
      KVTIER_ASSIGN_OR_RETURN(chunk.key, KeyFromBytes(name.key(), "the chunk's key", false));
      return chunk;
    }
    case v1::ChunkName::kTokens: {
      const v1::TokenChunk& tokens = name.tokens();
      if (tokens.tokens().empty())
        return absl::InvalidArgumentError("a chunk is named by an empty list of tokens");
      if (token_count && static_cast<uint32_t>(tokens.tokens_size()) != *token_count) {
        return absl::InvalidArgumentError(absl::StrCat("a chunk is named by ", tokens.tokens_size(),
                                                       " tokens, but its token_count is ",
                                                       *token_count));
      }
      KVTIER_RETURN_IF_ERROR(CheckBytes("extra of a chunk", tokens.extra().size(), kExtraBytesMax));
      KVTIER_ASSIGN_OR_RETURN(chunk.parent, KeyFromBytes(tokens.parent_key(), "parent_key", true));
      chunk.key = wire::TokenChunkKey(
          scope, *chunk.parent,
          absl::MakeConstSpan(tokens.tokens().data(), static_cast<size_t>(tokens.tokens_size())),
          tokens.extra());
      return chunk;
    }
    case v1::ChunkName::kOpaque: {
      const v1::OpaqueChunk& opaque = name.opaque();
      if (opaque.engine_key().empty())
        return absl::InvalidArgumentError("a chunk's engine_key is empty");
      KVTIER_RETURN_IF_ERROR(
          CheckBytes("engine_key of a chunk", opaque.engine_key().size(), kEngineKeyBytesMax));
      KVTIER_RETURN_IF_ERROR(CheckBytes("extra of a chunk", opaque.extra().size(), kExtraBytesMax));
      KVTIER_ASSIGN_OR_RETURN(const wire::ChunkKey parent,
                              KeyFromBytes(opaque.parent_key(), "parent_key", true));
      if (!opaque.parent_key().empty()) chunk.parent = parent;
      chunk.key = wire::OpaqueChunkKey(scope, parent, opaque.engine_key(), opaque.extra());
      return chunk;
    }
    case v1::ChunkName::NAME_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("a chunk has no name: key, tokens or opaque is needed");
}

absl::StatusOr<ModelId> ModelFromNumber(uint32_t number) {
  if (number > kSmallIdMax)
    return absl::NotFoundError(absl::StrCat("model ", number, " is not registered"));
  return ModelId(static_cast<uint16_t>(number));
}

absl::StatusOr<PlaneIndex> PlaneFromNumber(uint32_t number) {
  if (number > kSmallIdMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("plane ", number, " is beyond the largest number, ", kSmallIdMax));
  }
  return PlaneIndex(static_cast<uint16_t>(number));
}

absl::StatusOr<std::vector<PlaneIndex>> PlanesFromNumbers(
    const google::protobuf::RepeatedField<uint32_t>& numbers, uint32_t planes_max) {
  if (static_cast<uint32_t>(numbers.size()) > planes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(numbers.size(), " planes are named; a model has at most ", planes_max));
  }
  std::vector<PlaneIndex> planes;
  planes.reserve(static_cast<size_t>(numbers.size()));
  for (const uint32_t number : numbers) {
    KVTIER_ASSIGN_OR_RETURN(const PlaneIndex plane, PlaneFromNumber(number));
    planes.push_back(plane);
  }
  return planes;
}

absl::StatusOr<ModelSpec> ModelFromProto(const v1::ModelSpec& model, uint32_t planes_max) {
  if (static_cast<uint32_t>(model.planes_size()) > planes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model has ", model.planes_size(), " planes; the limit is ", planes_max));
  }
  if (model.recompute_size() > kRecomputePointsMax) {
    return absl::InvalidArgumentError(absl::StrCat("the model has ", model.recompute_size(),
                                                   " recompute points; the limit is ",
                                                   kRecomputePointsMax));
  }
  ModelSpec spec;
  spec.name = model.name();
  spec.revision = model.revision();
  spec.data_type = model.data_type();
  spec.layout_version = model.layout_version();
  spec.salt = model.salt();
  spec.chunk_tokens = model.chunk_tokens();
  for (int i = 0; i < model.planes_size(); ++i) {
    const v1::Plane& plane = model.planes(i);
    // Beyond 2^62 a size is no size, and would turn negative; ValidateModel knows the real limit.
    if (plane.bytes_per_chunk() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max() / 2)) {
      return absl::InvalidArgumentError(absl::StrCat("plane ", i, " has ", plane.bytes_per_chunk(),
                                                     " bytes a chunk: no pool is that large"));
    }
    KVTIER_ASSIGN_OR_RETURN(const PlaneKind kind, KindFromProto(plane.kind(), i));
    spec.planes.push_back({.name = plane.name(),
                           .layer = plane.layer(),
                           .kind = kind,
                           .rank = plane.rank(),
                           .bytes_per_chunk = Bytes(static_cast<int64_t>(plane.bytes_per_chunk())),
                           .required = plane.required(),
                           .window_tokens = plane.window_tokens()});
  }
  for (const v1::RecomputeCost& point : model.recompute()) {
    spec.recompute.push_back(
        {.context_tokens = point.context_tokens(), .seconds = point.seconds()});
  }
  return spec;
}

absl::Status CheckHints(const v1::Hints& hints) {
  if (!v1::Priority_IsValid(hints.priority())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "hints: priority ", static_cast<int>(hints.priority()), " is unknown; 0 to 2 are known"));
  }
  if (hints.do_not_store()) {
    return absl::FailedPreconditionError(
        "hints: do_not_store is set, so nothing was reserved: keep these chunks in the worker");
  }
  return absl::OkStatus();
}

absl::Duration LeaseTtl(uint64_t milliseconds, absl::Duration maximum) {
  const uint64_t largest = static_cast<uint64_t>(absl::ToInt64Milliseconds(maximum));
  return absl::Milliseconds(static_cast<int64_t>(std::min(milliseconds, largest)));
}

v1::WatchReply EventToProto(const Event& event) {
  v1::WatchReply reply;
  reply.set_sequence(event.sequence);
  switch (event.kind) {
    case EventKind::kCommitted:
      reply.set_kind(v1::WatchReply::COMMITTED);
      break;
    case EventKind::kDropped:
      reply.set_kind(v1::WatchReply::DROPPED);
      break;
    case EventKind::kForgotten:
      reply.set_kind(v1::WatchReply::FORGOTTEN);
      break;
    case EventKind::kMoved:
      reply.set_kind(v1::WatchReply::MOVED);
      break;
    case EventKind::kLost:
      reply.set_kind(v1::WatchReply::LOST);
      break;
  }
  reply.set_key(KeyToBytes(event.key));
  reply.set_model_id(event.model.value());
  if (event.kind == EventKind::kMoved || event.kind == EventKind::kLost)
    reply.set_plane(event.plane.value());
  return reply;
}

}  // namespace kvtier
