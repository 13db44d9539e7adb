// Moves that empty a segment: one of a pool over its budget, and an inbox whose segment other
// blocks need.
//
// Slots of an inbox that are free are of use to its writer alone. A pool whose segments are all
// inboxes has no room for what moves into it then, however little is in them. Where a move found no
// slot, the tenant's emptiest inbox is emptied into the next pool, as a whole; the segment goes
// back to the pool and comes as a fresh one that the daemon alone writes. Nothing goes back and
// forth: moves put blocks into segments of the pool, so each block leaves an inbox this way at most
// once. What goes had to be in an inbox with much free, that nobody writes to; what comes was just
// read or asked for.
#include <utility>
#include <vector>

#include "tiering/base/check.h"
#include "tiering/engine/engine_state.h"

namespace kvtier {
namespace {

// An inbox is emptied only when at least an eighth of it is free, so each segment won costs less
// than it brings. A policy that keeps an eighth of a pool free keeps such an inbox in a pool of
// inboxes.
constexpr uint32_t kFreeShareMin = 8;
// A live writer's newest inbox is its own for so long after it last got slots: it would only begin
// another.
constexpr absl::Duration kWriterIdle = absl::Seconds(5);
constexpr size_t kInboxesPerSearch = 16;
// Of those, how many are looked at block by block.
constexpr int kInboxesChecked = 4;
// Ticks without a block less until an inbox is given up, and until the next search where one found
// nothing or was in vain.
constexpr uint32_t kEvacuationStalledTicksMax = 256;
constexpr uint32_t kPauseTicks = 16;

}  // namespace

void Engine::State::PlanEvacuations(size_t ideas_max) {
  for (size_t p = 0; p < allocators.size() && allocators.size() > 1; ++p) {
    const PoolId from(static_cast<uint8_t>(p));
    const bool last = p + 1 == allocators.size();
    const PoolId to(static_cast<uint8_t>(last ? p - 1 : p + 1));
    for (size_t step = 0; step < tenants.size(); ++step) {
      // Another tenant first each time: one may take all that is left of this tick.
      const size_t i = (evacuations_planned + step) % tenants.size();
      const TenantId tenant(static_cast<uint16_t>(i));
      const size_t left = ideas_max - ideas.size();
      const bool shrinks = allocators[p]->excess_once_freed() > Bytes(0);
      const bool stopped = MovesStopped(tenant, from);
      if (shrinks && !stopped) {
        if (const auto segment = allocators[p]->EmptiestSegment(tenant, Bytes(0)))
          EmptySegment(from, *segment, to, left);
      }
      // Half of what may start is left to the policy, whose moves wait for this.
      const bool coming =
          !shrinks && !last && !stopped && PlanInbox(tenant, from, to, (left + 1) / 2);
      const Bytes wanted = std::exchange(inbox_room[p * tenants.size() + i].wanted, Bytes(0));
      if (!coming) Miss(tenant, from, wanted);
    }
  }
  ++evacuations_planned;
}

uint32_t Engine::State::EmptySegment(PoolId from, SegmentIndex segment, PoolId to,
                                     size_t ideas_max) {
  const size_t end = ideas.size() + ideas_max;
  uint32_t owned = 0;
  size_t plane = 0;
  allocator(from).ForEachUsed(segment, [&](CopyRef slot) {
    const RowIndex row = allocator(from).owner(slot);
    if (row == kNoRow) return;
    ++owned;
    if (ideas.size() < end && blocks.moves(row) == 0 && FindBest(row, slot, plane))
      ideas.push_back({row, PlaneIndex(static_cast<uint16_t>(plane)), from, to});
  });
  return owned;
}

bool Engine::State::PlanInbox(TenantId tenant, PoolId from, PoolId to, size_t ideas_max) {
  InboxRoom& room = inbox_room[from.value() * tenants.size() + tenant.value()];
  if (room.emptying) {
    const auto inbox = allocator(from).UseOf(*room.emptying);
    if (!inbox || inbox->incarnation != room.incarnation) {
      room.emptying.reset();
      return true;
    }
    const uint32_t left = inbox->used_slots - inbox->retired_slots;
    room.stalled_ticks = left == 0 || left < room.left ? 0 : room.stalled_ticks + 1;
    room.left = left;
    // Slots without a chunk: its writer goes on in it.
    if (room.stalled_ticks < kEvacuationStalledTicksMax &&
        EmptySegment(from, *room.emptying, to, ideas_max) == left)
      return true;
    room.emptying.reset();
    room.pause_ticks = kPauseTicks;
  }
  if (room.pause_ticks > 0) {
    --room.pause_ticks;
    return room.later;
  }
  if (room.wanted == Bytes(0)) return true;
  // What readers still hold will do, by the time of the next try.
  if (allocator(from).RoomToCome(tenant, room.block_bytes) >= room.wanted) {
    room.later = true;
    room.pause_ticks = 1;
    return true;
  }
  room.later = false;
  room.emptying = FindInboxToEmpty(tenant, from, room.later);
  if (!room.emptying) {
    room.pause_ticks = kPauseTicks;
    return room.later;
  }
  const SlotAllocator::SegmentUse inbox = *allocator(from).UseOf(*room.emptying);
  room.incarnation = inbox.incarnation;
  room.left = inbox.used_slots - inbox.retired_slots;
  room.stalled_ticks = 0;
  EmptySegment(from, *room.emptying, to, ideas_max);
  return true;
}

std::optional<SegmentIndex> Engine::State::FindInboxToEmpty(TenantId tenant, PoolId pool,
                                                            bool& later) const {
  int checked = 0;
  for (const SegmentIndex segment : allocator(pool).EmptiestInboxes(tenant, kInboxesPerSearch)) {
    const SlotAllocator::SegmentUse inbox = *allocator(pool).UseOf(segment);
    if (inbox.slots - inbox.used_slots < inbox.slots / kFreeShareMin) continue;
    later = true;
    const EngineShare::Client* const writer =
        share == nullptr ? nullptr : share->Find(inbox.writer);
    const bool busy = writer != nullptr && writer->reserved_at + kWriterIdle > *last_tick;
    if (busy && inbox.newest) continue;
    if (++checked > kInboxesChecked) break;
    if (CanBeEmptied(pool, segment)) return segment;
  }
  return std::nullopt;
}

bool Engine::State::CanBeEmptied(PoolId pool, SegmentIndex segment) const {
  const SlotAllocator::SegmentUse inbox = *allocator(pool).UseOf(segment);
  uint32_t movable = 0;
  size_t plane = 0;
  allocator(pool).ForEachUsed(segment, [&](CopyRef slot) {
    const RowIndex row = allocator(pool).owner(slot);
    if (row == kNoRow || blocks.hidden(row) || !FindBest(row, slot, plane)) return;
    const Block& block = blocks.block(row, PlaneIndex(static_cast<uint16_t>(plane)));
    movable += block.second.valid() ? 0 : 1;
  });
  return movable == inbox.used_slots - inbox.retired_slots;
}

bool Engine::State::FindBest(RowIndex row, CopyRef slot, size_t& plane) const {
  // Planes of a chunk lie in their order: the next one comes first.
  const size_t planes = blocks.plane_count(blocks.model(row));
  for (size_t i = 0; i < planes; ++i) {
    plane = plane + 1 < planes ? plane + 1 : 0;
    if (blocks.block(row, PlaneIndex(static_cast<uint16_t>(plane))).best == slot) return true;
  }
  return false;
}

}  // namespace kvtier
