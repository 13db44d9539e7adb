// What a request to write must satisfy, before anything changes.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiering/block/block_catalog.h"
#include "tiering/block/model.h"

namespace kvtier {

// Numbers of a request's planes, checked: known, not twice. Empty means all.
absl::StatusOr<std::vector<PlaneIndex>> CheckPlanes(const ModelSpec& spec,
                                                    const std::vector<PlaneIndex>& planes);

// FAILED_PRECONDITION unless `parent`, whose key is `key`, is there and all its tokens are.
absl::Status CheckParent(const BlockCatalog& blocks, RowIndex parent, const wire::ChunkKey& key);

}  // namespace kvtier
