#include "tiering/plan/victim_help.h"

namespace kvtier {
namespace {

constexpr int kAncestorsMax = 64;

bool Uses(const Block& block, PoolId pool) {
  return (block.best.valid() && block.best.pool() == pool) ||
         (block.second.valid() && block.second.pool() == pool);
}

}  // namespace

VictimHelp HelpOf(const BlockCatalog& table, RowIndex row, PoolId pool) {
  const size_t planes = table.plane_count(table.model(row));
  bool any_copy = false;
  for (size_t i = 0; i < planes; ++i) {
    const Block& block = table.block(row, PlaneIndex(static_cast<uint16_t>(i)));
    if (Uses(block, pool)) return VictimHelp::kFrees;
    any_copy |= block.best.valid();
  }
  if (!any_copy) return VictimHelp::kFrees;
  RowIndex ancestor = table.parent(row);
  for (int depth = 0; ancestor != kNoRow && depth < kAncestorsMax; ++depth) {
    if (table.leases(ancestor) > 0 || table.moves(ancestor) > 0) break;
    for (size_t i = 0; i < planes; ++i) {
      if (Uses(table.block(ancestor, PlaneIndex(static_cast<uint16_t>(i))), pool))
        return VictimHelp::kUnblocks;
    }
    ancestor = table.parent(ancestor);
  }
  return VictimHelp::kNone;
}

}  // namespace kvtier
