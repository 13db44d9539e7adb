// What dropping a chunk does for a pool that needs room.
#pragma once

#include <cstdint>

#include "tiering/base/ids.h"
#include "tiering/block/block_catalog.h"

namespace kvtier {

enum class VictimHelp : uint8_t {
  kNone,
  // It has no block in the pool, but is what keeps an ancestor that has one: only leaves can be
  // dropped, so such leaves go where no better one is left.
  kUnblocks,
  // It has a block in the pool; or none anywhere, so that nothing is lost with it.
  kFrees,
};

// `row` is droppable. Looks at its planes, and for kUnblocks at those of a bounded number of
// ancestors, up to the first one that somebody holds.
VictimHelp HelpOf(const BlockCatalog& table, RowIndex row, PoolId pool);

}  // namespace kvtier
