// What writing, reading and moving share: slots, eviction, dropping and hiding of chunks.
#include <algorithm>
#include <vector>

#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/engine/engine_state.h"

namespace kvtier {
namespace {

// Victims tried for slots of one size and writer before a segment of another kind is emptied
// instead: in all, and of those without such a slot.
constexpr int kVictimsPerEvacuation = 32;
constexpr int kUselessPerEvacuation = 4;
// Segments looked at for something to drop: what is reserved or leased may be all that is in the
// emptiest ones.
constexpr size_t kSegmentsPerEvacuation = 16;

constexpr int kVictimSearchesMax = 32;

}  // namespace

PoolRoom Engine::State::Room(TenantId tenant, PoolId pool) const {
  const SlotAllocator& slots = allocator(pool);
  // Slots come in whole segments.
  const Bytes segment = pools[pool.value()]->segment_bytes();
  const Bytes limit = std::min(slots.quota(tenant), slots.budget());
  return PoolRoom{slots.used(tenant), segment * (limit / segment),
                  missed[pool.value() * tenants.size() + tenant.value()]};
}

void Engine::State::Miss(TenantId tenant, PoolId pool, Bytes bytes) {
  Bytes& sum = missed[pool.value() * tenants.size() + tenant.value()];
  sum = std::min(sum + bytes, allocator(pool).budget());
}

Bytes Engine::State::SlotBytes(ModelId model, PlaneIndex plane) const {
  return allocators[0]->SlotBytes(blocks.layout(model).plane_bytes[plane.value()]);
}

SlotAddress Engine::State::AddressOf(CopyRef slot) const {
  return SlotAddress{slot.pool(), slot.segment(), allocator(slot.pool()).OffsetOf(slot)};
}

Bytes Engine::State::Retire(CopyRef slot) {
  const Bytes slot_bytes = allocator(slot.pool()).Retire(slot);
  quarantine.Retire(slot, slot_bytes);
  return slot_bytes;
}

void Engine::State::ReclaimRetired() {
  for (size_t i = 0; i < tenants.size(); ++i) ReclaimRetired(TenantId(static_cast<uint16_t>(i)));
}

void Engine::State::ReclaimRetired(TenantId tenant) {
  // Sections of the daemon's own threads first, of all tenants; then those of the tenant's clients.
  slots_scratch.clear();
  quarantine.TakeFree(slots_scratch);
  for (const CopyRef slot : slots_scratch) {
    if (share != nullptr) {
      share->Retire(slot);
    } else {
      allocator(slot.pool()).Free(slot);
    }
  }
  if (share == nullptr) return;
  share->Reclaim(tenant, [this](CopyRef slot) { allocator(slot.pool()).Free(slot); });
}

bool Engine::State::AllocateSlots(SlotUser user, const std::vector<PoolId>& candidates,
                                  Bytes block_bytes, size_t count, uint32_t calls,
                                  RoomMaking& making, std::vector<CopyRef>& slots) {
  const TenantId tenant = user.tenant;
  const auto allocate = [&](PoolId pool) {
    return allocator(pool).Allocate(tenant, block_bytes, count, slots, user.writer);
  };
  for (const PoolId pool : candidates) {
    if (allocate(pool)) return true;
    if (!making.looked && allocator(pool).RoomToCome(tenant, block_bytes, user.writer) > Bytes(0)) {
      making.looked = true;
      ReclaimRetired(tenant);
      if (allocate(pool)) return true;
    }
    // Who has no segment there would not get what is moved out of the others'.
    if (allocator(pool).HasSegment(tenant, block_bytes, user.writer))
      Miss(tenant, pool, allocator(pool).SlotBytes(block_bytes) * static_cast<int64_t>(count));
  }
  // A chunk has blocks of several sizes, in several pools: the room may be in any of them.
  const auto allocate_anywhere = [&] {
    return std::any_of(candidates.begin(), candidates.end(), allocate);
  };
  // Room is made in the slowest pool that will do.
  for (size_t i = candidates.size(); i-- > 0;) {
    const PoolId pool = candidates[i];
    const Bytes needed = allocator(pool).SlotBytes(block_bytes) * static_cast<int64_t>(count);
    const Bytes limit = Room(tenant, pool).limit;
    if (needed > limit) continue;
    if (MakeRoom(user, pool, block_bytes, needed, std::min(needed * calls, limit), making,
                 allocate_anywhere)) {
      return true;
    }
  }
  return false;
}

bool Engine::State::MakeRoom(SlotUser user, PoolId pool, Bytes block_bytes, Bytes needed,
                             Bytes wanted, RoomMaking& making, absl::FunctionRef<bool()> allocate) {
  const SlotAllocator& slots = allocator(pool);
  const auto to_come = [&] { return slots.RoomToCome(user.tenant, block_bytes, user.writer); };
  making.tried = making.useless = 0;
  size_t dropped = 0;  // since the last look
  for (;;) {
    // What readers still hold will come free; dropping more chunks meanwhile would only lose them.
    if (dropped == 0 && (to_come() >= needed || making.allowance <= Bytes(0))) return false;
    const Bytes freed = user.writer == ShmClientId()
                            ? MakeRoomInPool(user.tenant, pool, block_bytes, making)
                            : MakeRoomInInbox(user, pool, block_bytes);
    if (freed == Bytes(0) && dropped == 0) return false;
    making.allowance -= freed;
    ++dropped;
    const bool more = freed > Bytes(0) && making.allowance > Bytes(0) &&
                      dropped < making.per_look &&
                      slots.RoomNow(user.tenant, block_bytes, user.writer) + to_come() < wanted;
    if (more) continue;
    ReclaimRetired(user.tenant);
    making.per_look *= 2;
    dropped = 0;
    if (allocate()) return true;
    if (freed == Bytes(0)) return false;
  }
}

Bytes Engine::State::MakeRoomInPool(TenantId tenant, PoolId pool, Bytes block_bytes,
                                    RoomMaking& making) {
  const SlotUser user{tenant, {}};
  const bool evacuate =
      ++making.tried % kVictimsPerEvacuation == 0 || making.useless >= kUselessPerEvacuation;
  if (evacuate) {
    making.useless = 0;
    const Bytes freed = EvacuateSegment(user, pool, block_bytes);
    if (freed > Bytes(0)) return freed;
  }
  const RowIndex victim = FindVictim(tenant, pool);
  if (victim != kNoRow) {
    making.useless += HasSlotFor(user, pool, block_bytes, victim) ? 0 : 1;
    return DropVictim(victim);
  }
  return evacuate ? Bytes(0) : EvacuateSegment(user, pool, block_bytes);
}

Bytes Engine::State::MakeRoomInInbox(SlotUser user, PoolId pool, Bytes block_bytes) {
  const bool has_inbox = std::any_of(allocators.begin(), allocators.end(), [&](const auto& slots) {
    return slots->HasSegment(user.tenant, block_bytes, user.writer);
  });
  if (!has_inbox) return EvacuateSegment(user, pool, block_bytes);
  const RowIndex victim = FindVictim(user.tenant, pool);
  return victim != kNoRow && IsInInbox(victim, pool) ? DropVictim(victim) : Bytes(0);
}

RowIndex Engine::State::FindVictim(TenantId tenant, PoolId pool) {
  // A search is bounded and goes on where the last one stopped, so one that found nothing is
  // repeated a few times.
  RowIndex victim = kNoRow;
  for (int search = 0; search < kVictimSearchesMax && victim == kNoRow; ++search) {
    victim = policy->Victim(tenant, pool);
  }
  KVTIER_CHECK(victim == kNoRow || (blocks.tenant(victim) == tenant && blocks.Droppable(victim)));
  return victim;
}

Bytes Engine::State::EvictOne(TenantId tenant, PoolId pool) {
  const RowIndex victim = FindVictim(tenant, pool);
  return victim == kNoRow ? Bytes(0) : DropVictim(victim);
}

Bytes Engine::State::DropVictim(RowIndex victim) {
  // One byte for a chunk whose copies were all lost: dropping it is progress, too.
  return std::max(Bytes(1), DropChunk(victim, EventKind::kDropped));
}

bool Engine::State::AnyCopyIn(RowIndex row, PoolId pool,
                              absl::FunctionRef<bool(CopyRef)> wanted) const {
  const size_t planes = blocks.plane_count(blocks.model(row));
  for (size_t i = 0; i < planes; ++i) {
    const Block& block = blocks.block(row, PlaneIndex(static_cast<uint16_t>(i)));
    for (const CopyRef copy : {block.best, block.second}) {
      if (copy.valid() && copy.pool() == pool && wanted(copy)) return true;
    }
  }
  return false;
}

bool Engine::State::HasSlotFor(SlotUser user, PoolId pool, Bytes block_bytes, RowIndex row) const {
  const SlotAllocator& slots = allocator(pool);
  const Bytes slot_bytes = slots.SlotBytes(block_bytes);
  return AnyCopyIn(row, pool, [&](CopyRef copy) {
    return slots.SlotBytesOf(copy) == slot_bytes && slots.writer(copy) == user.writer;
  });
}

bool Engine::State::IsInInbox(RowIndex row, PoolId pool) const {
  return AnyCopyIn(row, pool,
                   [&](CopyRef copy) { return allocator(pool).writer(copy) != ShmClientId(); });
}

bool Engine::State::AllocateForMove(TenantId tenant, PoolId pool, Bytes block_bytes, size_t count,
                                    std::vector<CopyRef>& slots) {
  const SlotAllocator& to = allocator(pool);
  const bool last = pool.value() + 1u == allocators.size();
  const Bytes needed = to.SlotBytes(block_bytes) * static_cast<int64_t>(count);
  const auto to_come = [&] { return to.RoomToCome(tenant, block_bytes); };
  const auto drop_one = [&] {
    const RowIndex victim = FindVictim(tenant, pool);
    if (victim == kNoRow) return false;
    if (!HasSlotFor({tenant, {}}, pool, block_bytes, victim))
      return EvacuateInbox(tenant, pool, count);
    DropChunk(victim, EventKind::kDropped);
    return true;
  };
  for (size_t dropped = 0;;) {
    if (allocator(pool).Allocate(tenant, block_bytes, count, slots)) return true;
    if (!last) {
      // PlanEvacuations sees who makes room.
      InboxRoom& room = inbox_room[pool.value() * tenants.size() + tenant.value()];
      // One size at a time.
      if (room.block_bytes != block_bytes) Miss(tenant, pool, std::exchange(room.wanted, Bytes(0)));
      room.wanted += needed;
      room.block_bytes = block_bytes;
      return false;
    }
    if (dropped == count || move_looks == 0 || to_come() >= needed) return false;
    --move_looks;  // in vain or not: looking for what to drop is the larger part
    const size_t before = dropped;
    while (dropped < count && drop_one()) {
      ++dropped;
      if (to.RoomNow(tenant, block_bytes) + to_come() >= needed) break;
    }
    if (dropped == before) return false;
    ReclaimRetired(tenant);
  }
}

Bytes Engine::State::EvacuateSegment(SlotUser user, PoolId pool, Bytes block_bytes) {
  const SlotAllocator& slots = allocator(pool);
  // It would be given back and bring nothing: the tenant gets no fresh one.
  if (block_bytes != Bytes(0) && slots.keeps_too_much(user.tenant)) return Bytes(0);
  // Each writer is at one of them at most.
  const size_t writers = share == nullptr ? 0 : share->inboxes_wanted(user.tenant);
  const std::vector<SegmentIndex> emptiest = slots.EmptiestSegments(
      user.tenant, block_bytes, user.writer, kSegmentsPerEvacuation + writers);
  // What a writer is at stays where anything else can go; another writer can do without, and write
  // by stream.
  for (const bool at : {false, true}) {
    if (at && user.writer != ShmClientId()) break;
    size_t tried = 0;
    for (const SegmentIndex segment : emptiest) {
      if (WriterIsAt(*slots.UseOf(segment)) != at) continue;
      const Bytes freed = DropSegment(pool, segment);
      if (freed > Bytes(0)) return freed;
      if (++tried == kSegmentsPerEvacuation) break;
    }
  }
  return Bytes(0);
}

bool Engine::State::WriterIsAt(const SlotAllocator::SegmentUse& segment) const {
  if (!segment.newest || share == nullptr) return false;
  const EngineShare::Client* const writer = share->Find(segment.writer);
  return writer != nullptr && writer->inboxes_wanted > 0 && !WritersCrowd(segment.tenant);
}

bool Engine::State::EvacuateInbox(TenantId tenant, PoolId pool, size_t used_max) {
  for (const SegmentIndex segment :
       allocator(pool).EmptiestSegments(tenant, Bytes(0), {}, kSegmentsPerEvacuation)) {
    const SlotAllocator::SegmentUse segment_use = *allocator(pool).UseOf(segment);
    if (segment_use.writer == ShmClientId() || segment_use.used_slots > used_max) continue;
    if (DropSegment(pool, segment) > Bytes(0)) return true;
  }
  return false;
}

Bytes Engine::State::DropSegment(PoolId pool, SegmentIndex segment) {
  std::vector<RowIndex> rows;
  allocator(pool).ForEachUsed(segment, [&](CopyRef slot) {
    const RowIndex row = allocator(pool).owner(slot);
    if (row != kNoRow && (rows.empty() || rows.back() != row)) rows.push_back(row);
  });
  Bytes freed;
  // Most chunks lie behind their parents: from the end on, tails go before what they hang on.
  for (size_t i = rows.size(); i-- > 0;) {
    const RowIndex row = rows[i];
    if (blocks.live(row) && !blocks.hidden(row) && blocks.Droppable(row)) freed += DropVictim(row);
  }
  return freed;
}

void Engine::State::Log(RowIndex row, EventKind kind, PlaneIndex plane, PoolId pool) {
  Event event;
  event.kind = kind;
  event.key = blocks.key(row);
  event.model = blocks.model(row);
  event.plane = plane;
  event.pool = pool;
  logs[blocks.tenant(row).value()].Append(event);
}

Bytes Engine::State::RemoveCopies(RowIndex row) {
  Bytes freed;
  const size_t planes = blocks.plane_count(blocks.model(row));
  for (size_t i = 0; i < planes; ++i) {
    const PlaneIndex plane(static_cast<uint16_t>(i));
    while (blocks.block(row, plane).best.valid()) {
      const CopyRef copy = blocks.block(row, plane).best;
      blocks.RemoveCopy(row, plane, copy);
      freed += Retire(copy);
    }
  }
  return freed;
}

RowIndex Engine::State::CreateRow(TenantId tenant, ModelId model, const wire::ChunkKey& key,
                                  RowIndex parent, uint32_t token_count) {
  TenantUse& own = use[tenant.value()];
  const size_t planes = blocks.plane_count(model);
  if (own.chunks >= Share(limits.chunks_max) || own.blocks + planes > Share(limits.blocks_max))
    return kNoRow;
  const RowIndex row = blocks.Create(model, key, parent, token_count);
  if (row == kNoRow) return kNoRow;
  ++own.chunks;
  own.blocks += planes;
  return row;
}

void Engine::State::RemoveRow(RowIndex row) {
  TenantUse& own = use[blocks.tenant(row).value()];
  --own.chunks;
  own.blocks -= blocks.plane_count(blocks.model(row));
  blocks.Remove(row);
}

Bytes Engine::State::DropChunk(RowIndex row, EventKind kind) {
  KVTIER_CHECK(!blocks.hidden(row));
  policy->OnRemove(row);
  if (blocks.was_visible(row)) {
    Log(row, kind);
    ++counts.dropped_chunks;
  } else {
    ++counts.incomplete_dropped_chunks;
  }
  const Bytes freed = RemoveCopies(row);
  const RowIndex parent = blocks.parent(row);
  RemoveRow(row);
  if (parent != kNoRow) FreeIfUnheld(parent);
  return freed;
}

uint32_t Engine::State::HideSubtree(RowIndex root) {
  // Parents come before children in this order, so freeing runs over it backwards.
  std::vector<RowIndex> subtree{root};
  for (size_t i = 0; i < subtree.size(); ++i) {
    for (RowIndex child = blocks.first_child(subtree[i]); child != kNoRow;
         child = blocks.next_sibling(child)) {
      subtree.push_back(child);
    }
  }
  uint32_t hidden = 0;
  for (const RowIndex row : subtree) {
    if (blocks.hidden(row)) continue;
    policy->OnRemove(row);
    if (blocks.was_visible(row)) Log(row, EventKind::kForgotten);
    blocks.Unlink(row);
    ++hidden;
  }
  for (size_t i = subtree.size(); i-- > 0;) {
    // FreeIfUnheld may have freed an ancestor in `subtree` already; its descendants went before it.
    if (blocks.live(subtree[i]) && blocks.hidden(subtree[i])) FreeIfUnheld(subtree[i]);
  }
  return hidden;
}

void Engine::State::FreeIfUnheld(RowIndex row) {
  while (row != kNoRow && blocks.hidden(row) && blocks.Droppable(row)) {
    const RowIndex parent = blocks.parent(row);
    RemoveCopies(row);
    RemoveRow(row);
    row = parent;
  }
}

void Engine::State::UnpinRow(RowIndex row) {
  blocks.Unpin(row);
  FreeIfUnheld(row);
}

void Engine::State::DropBadCopy(RowIndex row, PlaneIndex plane, CopyRef copy) {
  if (!blocks.RemoveCopy(row, plane, copy)) return;
  // A copy that is under way still reads the slot; FinishMoves retires it then.
  if (moves.DropSource(row, plane, copy)) {
    allocator(copy.pool()).SetOwner(copy, kNoRow);
  } else {
    Retire(copy);
  }
  ++counts.corrupt_copies;
  if (!blocks.block(row, plane).best.valid()) {
    ++counts.lost_blocks;
    if (!blocks.hidden(row)) Log(row, EventKind::kLost, plane);
  }
  if (!blocks.hidden(row)) policy->OnResidency(row);
}

}  // namespace kvtier
