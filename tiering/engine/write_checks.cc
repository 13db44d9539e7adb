#include "tiering/engine/write_checks.h"

#include "absl/strings/str_format.h"

namespace kvtier {

absl::StatusOr<std::vector<PlaneIndex>> CheckPlanes(const ModelSpec& spec,
                                                    const std::vector<PlaneIndex>& planes) {
  const size_t count = spec.planes.size();
  std::vector<PlaneIndex> result;
  if (planes.empty()) {
    for (size_t i = 0; i < count; ++i) result.push_back(PlaneIndex(static_cast<uint16_t>(i)));
    return result;
  }
  if (planes.size() > count) {
    return absl::InvalidArgumentError(absl::StrFormat("%d planes are named; model \"%s\" has %d",
                                                      planes.size(), spec.name, count));
  }
  std::vector<bool> seen(count);
  for (const PlaneIndex plane : planes) {
    if (plane.value() >= count) {
      return absl::InvalidArgumentError(
          absl::StrFormat("plane %d does not belong to model \"%s\", which has %d", plane.value(),
                          spec.name, count));
    }
    if (seen[plane.value()]) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "plane %d (\"%s\") is named twice", plane.value(), spec.planes[plane.value()].name));
    }
    seen[plane.value()] = true;
  }
  return planes;
}

absl::Status CheckParent(const BlockCatalog& blocks, RowIndex parent, const wire::ChunkKey& key) {
  if (parent == kNoRow || blocks.hidden(parent)) {
    return absl::FailedPreconditionError(
        absl::StrFormat("parent chunk %s is not committed", key.ToHex()));
  }
  const uint32_t full = blocks.layout(blocks.model(parent)).chunk_tokens;
  if (blocks.token_count(parent) != full) {
    return absl::FailedPreconditionError(
        absl::StrFormat("parent chunk %s has %d of %d tokens; a partial chunk is a leaf",
                        key.ToHex(), blocks.token_count(parent), full));
  }
  return absl::OkStatus();
}

}  // namespace kvtier
