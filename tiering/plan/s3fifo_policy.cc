#include "tiering/plan/s3fifo_policy.h"

#include <algorithm>
#include <utility>

namespace kvtier {
namespace {

// Of the tenant's room, for the small queue.
constexpr int64_t kSmallShare = 10;
constexpr uint32_t kReadsMax = 3;
// Entries of the ghost's order that no longer count, beyond as many as do.
constexpr size_t kStaleMax = 1024;
// Reads that bring a chunk from the small queue into the main one.
constexpr uint32_t kReadsToStay = 2;

}  // namespace

void S3FifoPolicy::Bind(const PlacementView* view, BlockCatalog* table) {
  RankedPolicy::Bind(view, table);
  small_bytes_.resize(view->tenant_count());
  ghosts_.resize(view->tenant_count());
}

int64_t S3FifoPolicy::ChunkBytes(RowIndex row) const {
  const ModelId model = table().model(row);
  int64_t bytes = 0;
  for (size_t i = 0; i < table().plane_count(model); ++i)
    bytes += view().SlotBytes(model, PlaneIndex(static_cast<uint16_t>(i))).count();
  return bytes;
}

int64_t S3FifoPolicy::Capacity(TenantId tenant) const {
  int64_t bytes = 0;
  for (size_t pool = 0; pool < view().pool_count(); ++pool)
    bytes += view().Room(tenant, PoolId(static_cast<uint8_t>(pool))).limit.count();
  return bytes;
}

// Two names that are the same by accident let one chunk into the main queue that had to prove
// itself: harmless, and rare with 64 bits.
uint64_t S3FifoPolicy::NameOf(RowIndex row) const {
  return table().key(row).low() + table().model(row).value() * 0x9e3779b97f4a7c15ull;
}

uint32_t S3FifoPolicy::Reads(RowIndex row) {
  return (lists().HasFlag(row, 1u << kOwnFlagsShift) ? 1 : 0) +
         (lists().HasFlag(row, 2u << kOwnFlagsShift) ? 2 : 0);
}

void S3FifoPolicy::SetReads(RowIndex row, uint32_t reads) {
  lists().SetFlag(row, 1u << kOwnFlagsShift, (reads & 1) != 0);
  lists().SetFlag(row, 2u << kOwnFlagsShift, (reads & 2) != 0);
}

size_t S3FifoPolicy::NewRank(RowIndex row) {
  const size_t tenant = table().tenant(row).value();
  Ghost& ghost = ghosts_[tenant];
  SetReads(row, 0);
  if (const auto found = ghost.entries.find(NameOf(row)); found != ghost.entries.end()) {
    ghost.bytes -= found->second.second;
    ghost.entries.erase(found);
    return kMain;
  }
  small_bytes_[tenant] += ChunkBytes(row);
  return kSmall;
}

void S3FifoPolicy::Touched(RowIndex row) { SetReads(row, std::min(Reads(row) + 1, kReadsMax)); }

void S3FifoPolicy::Leaves(RowIndex row) {
  if (RankOf(row) != kSmall) return;
  const TenantId tenant = table().tenant(row);
  const int64_t bytes = ChunkBytes(row);
  small_bytes_[tenant.value()] -= bytes;
  Ghost& ghost = ghosts_[tenant.value()];
  const uint64_t name = NameOf(row);
  if (!ghost.entries.try_emplace(name, ghost.next, bytes).second) return;
  ghost.order.push_back({name, ghost.next++});
  ghost.bytes += bytes;
  const int64_t capacity = Capacity(tenant);
  const int64_t limit = capacity - capacity / kSmallShare;
  while (!ghost.order.empty()) {
    const Ghost::Entry& oldest = ghost.order.front();
    const auto found = ghost.entries.find(oldest.name);
    const bool counts = found != ghost.entries.end() && found->second.first == oldest.number;
    if (counts && ghost.bytes <= limit) break;
    if (counts) {
      ghost.bytes -= found->second.second;
      ghost.entries.erase(found);
    }
    ghost.order.pop_front();
  }
  if (ghost.order.size() > 2 * ghost.entries.size() + kStaleMax) {
    std::erase_if(ghost.order, [&](const Ghost::Entry& entry) {
      const auto found = ghost.entries.find(entry.name);
      return found == ghost.entries.end() || found->second.first != entry.number;
    });
  }
}

size_t S3FifoPolicy::FirstRank(TenantId tenant) {
  return small_bytes_[tenant.value()] >= Capacity(tenant) / kSmallShare ? kSmall : kMain;
}

bool S3FifoPolicy::Spared(RowIndex row) {
  const uint32_t reads = Reads(row);
  if (RankOf(row) == kMain) {
    if (reads == 0) return false;
    SetReads(row, reads - 1);
    lists().MoveToFront(row);
    return true;
  }
  if (reads < kReadsToStay) return false;
  small_bytes_[table().tenant(row).value()] -= ChunkBytes(row);
  SetReads(row, 0);
  MoveToRank(row, kMain);
  return true;
}

}  // namespace kvtier
