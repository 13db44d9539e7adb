// Requests into domain types and back. Every length and number is checked here or where the comment
// says so; errors are INVALID_ARGUMENT with the object, the number and the limit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "kvtier/v1/kv_cache.pb.h"
#include "kvtier/v1/types.pb.h"
#include "proto/wire/chunk_key.h"
#include "tiering/base/ids.h"
#include "tiering/block/model.h"
#include "tiering/engine/engine.h"

namespace kvtier {

// FAILED_PRECONDITION naming both versions unless the majors agree. `who` is "client" or "request".
absl::Status CheckVersion(const v1::Version& version, absl::string_view who);
v1::Version ProtocolVersion();

// 16 bytes; empty is the zero key when `empty_is_zero`.
absl::StatusOr<wire::ChunkKey> KeyFromBytes(absl::string_view bytes, absl::string_view what,
                                            bool empty_is_zero);
// A whole number of keys, at most `keys_max`.
absl::StatusOr<std::vector<wire::ChunkKey>> KeysFromBytes(absl::string_view bytes,
                                                          uint32_t keys_max);
std::string KeyToBytes(const wire::ChunkKey& key);

// The key that a name stands for, and the parent that it implies (none where the name says nothing
// of one). `token_count`, when given, must be the number of tokens that the name lists.
struct NamedChunk {
  wire::ChunkKey key;
  std::optional<wire::ChunkKey> parent;
};
absl::StatusOr<NamedChunk> NameToKey(const v1::ChunkName& name, const wire::KeyScope& scope,
                                     std::optional<uint32_t> token_count);
// Whether NameToKey needs the scope: the caller did not compute the key.
bool NeedsScope(const v1::ChunkName& name);

// Ids are numbers of 16 bits; larger ones are NOT_FOUND (model) or INVALID_ARGUMENT (plane).
absl::StatusOr<ModelId> ModelFromNumber(uint32_t number);
absl::StatusOr<PlaneIndex> PlaneFromNumber(uint32_t number);
absl::StatusOr<std::vector<PlaneIndex>> PlanesFromNumbers(
    const google::protobuf::RepeatedField<uint32_t>& numbers, uint32_t planes_max);

// Field by field; what the engine's ValidateModel checks is left to it, but the plane count is
// checked first.
absl::StatusOr<ModelSpec> ModelFromProto(const v1::ModelSpec& model, uint32_t planes_max);

// Known priority; do_not_store is FAILED_PRECONDITION: the daemon has nowhere to put what it must
// not keep.
absl::Status CheckHints(const v1::Hints& hints);

// Milliseconds of a request, where 0 stands for the default and more than the maximum for the
// maximum.
absl::Duration LeaseTtl(uint64_t milliseconds, absl::Duration maximum);

v1::WatchReply EventToProto(const Event& event);

}  // namespace kvtier
