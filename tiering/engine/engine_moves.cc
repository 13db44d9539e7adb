// Time: completions, expiry, keeping room, and moves.
#include <algorithm>
#include <utility>
#include <vector>

#include "tiering/base/check.h"
#include "tiering/engine/engine_state.h"

namespace kvtier {
namespace {

// A sweep looks at this many entries a tick, or at a sixteenth of the table if that is more, so
// that everything that timed out is found within sixteen ticks and a small table at once.
constexpr uint32_t kSweepMin = 256;
constexpr uint32_t kSweepShare = 16;

// The last pool keeps this share of a tenant's room free, but no more than so many segments, so
// that a reservation rarely waits for an eviction that readers hold up. What readers hold up is
// what few requests evict: it does not grow with the pool, and what is kept free holds no chunk.
constexpr int64_t kLastPoolFreeShare = 16;
constexpr int64_t kLastPoolFreeSegmentsMax = 16;
constexpr int kEvictionsPerTick = 256;
// Ticks that a pool over its budget may go without one slot less in use before chunks are dropped.
constexpr uint32_t kStalledTicksMax = 8;
constexpr uint16_t kMovesPerRowMax = 255;  // what a row's counter holds
// A move into a full last pool drops chunks and then looks at all readers: so many do in a tick,
// and the others in later ones.
constexpr uint32_t kMoveLooksPerTick = 8;

template <typename Visit>
void Sweep(uint32_t& cursor, uint32_t slots, Visit visit) {
  for (uint32_t left = std::min(slots, std::max(kSweepMin, slots / kSweepShare)); left > 0;
       --left) {
    if (cursor >= slots) cursor = 0;
    visit(cursor++);
  }
}

}  // namespace

bool Engine::Tick(absl::Time now) {
  State& s = *state_;
  s.copies->Poll(s.completions);
  s.Work(now);
  return s.moves.size() > 0 || s.moves_wanted;
}

bool Engine::SettleRound(absl::Time now) {
  State& s = *state_;
  s.copies->Poll(s.completions);
  if (s.completions.size() < s.moves.size()) return true;
  std::sort(s.completions.begin(), s.completions.end(),
            [](const CopyCompletion& a, const CopyCompletion& b) { return a.ticket < b.ticket; });
  const auto changes = [&s] {
    return s.counts.moves_done + s.counts.moves_failed + s.counts.dropped_chunks +
           s.counts.incomplete_dropped_chunks;
  };
  const uint64_t before = changes();
  s.Work(now);
  const bool waits_for_readers =
      std::any_of(s.allocators.begin(), s.allocators.end(),
                  [](const auto& slots) { return slots->retired() > Bytes(0); });
  const bool waits_for_its_share = s.moves_wanted && !s.move_budget.available();
  return s.moves.size() > 0 || changes() != before || waits_for_readers || waits_for_its_share;
}

void Engine::State::Work(absl::Time now) {
  const double elapsed = last_tick ? std::max(0.0, absl::ToDoubleSeconds(now - *last_tick)) : 0.1;
  last_tick = now;
  for (AccessClock& clock : access_clocks) clock.Observe(now);
  move_budget.Refill(elapsed);
  FinishMoves();
  if (share != nullptr) {
    share->Observe(now, limits.section_max);
    TakeReports();
  }
  SweepSessions(now);
  SweepLeases(now);
  SweepIncomplete(now);
  KeepRoom();
  ReclaimRetired();
  StartMoves(now);
}

void Engine::State::SweepSessions(absl::Time now) {
  Sweep(session_cursor, sessions.slot_count(), [&](uint32_t slot) {
    const uint64_t handle = sessions.HandleAt(slot);
    if (handle == 0 || sessions.Find(handle)->seen + limits.session_timeout >= now) return;
    EndSession(SessionId(handle));
    ++counts.sessions_expired;
  });
}

void Engine::State::SweepLeases(absl::Time now) {
  Sweep(lease_cursor, leases.slot_count(), [&](uint32_t slot) {
    const uint64_t handle = leases.HandleAt(slot);
    if (handle == 0) return;
    const Lease* lease = leases.Find(handle);
    if (lease->deadline >= now) return;
    Session* const session = sessions.Find(lease->session.value());
    KVTIER_CHECK(session != nullptr);
    EndLease(*session, LeaseId(handle));
    ++counts.leases_expired;
  });
}

bool Engine::State::Settled(const IncompleteChunk& chunk) const {
  return !blocks.live(chunk.row) || blocks.generation(chunk.row) != chunk.generation ||
         blocks.was_visible(chunk.row) || blocks.hidden(chunk.row);
}

void Engine::State::SweepIncomplete(absl::Time now) {
  while (!incomplete.empty()) {
    const IncompleteChunk& chunk = incomplete.front();
    if (!Settled(chunk)) {
      if (chunk.deadline >= now) return;
      counts.incomplete_dropped_chunks += HideSubtree(chunk.row);
    }
    incomplete.pop_front();
  }
}

bool Engine::State::HasRoomAhead(TenantId tenant, PoolId pool) const {
  const SlotAllocator& slots = allocator(pool);
  const PoolRoom room = Room(tenant, pool);
  const Bytes wanted = std::min(Bytes(room.limit.count() / kLastPoolFreeShare),
                                pools[pool.value()]->segment_bytes() * kLastPoolFreeSegmentsMax);
  const Bytes free = room.limit - (room.used - slots.retired(tenant));
  // What is free in inboxes is of use to their writers alone. Some of it comes with each eviction,
  // though, so there is an end.
  return free - slots.free_in_inboxes(tenant) >= wanted || free >= wanted * 2;
}

void Engine::State::KeepRoom() {
  const PoolId last(static_cast<uint8_t>(allocators.size() - 1));
  for (size_t i = 0; i < tenants.size(); ++i) {
    const TenantId tenant(static_cast<uint16_t>(i));
    for (int evicted = 0; evicted < kEvictionsPerTick; ++evicted) {
      if (HasRoomAhead(tenant, last) || EvictOne(tenant, last) == Bytes(0)) break;
    }
  }
  for (size_t p = 0; p < allocators.size(); ++p) ShrinkToBudget(PoolId(static_cast<uint8_t>(p)));
}

// A lowered budget: empty the segments with least in them until the pool fits. Moves to the next
// pool come first (PlanEvacuations); chunks are dropped only where those make no progress.
void Engine::State::ShrinkToBudget(PoolId pool) {
  const SlotAllocator& slots = allocator(pool);
  Shrinking& state = shrinking[pool.value()];
  // What only waits for readers counts as given back: for one client that stays in a section
  // everybody would lose chunks, one after the other.
  const Bytes excess = slots.excess_once_freed();
  const Bytes in_use = slots.used() - slots.retired();
  if (excess <= Bytes(0)) {
    state = {};
    return;
  }
  const bool last = pool.value() + 1u == allocators.size();
  // Once chunks are dropped, they are until a segment is given back.
  const bool moving = state.stalled_ticks <= kStalledTicksMax && in_use < state.least_in_use;
  if (state.stalled_ticks == 0 || excess < state.excess || moving)
    state = {.least_in_use = in_use, .excess = excess};
  ++state.stalled_ticks;
  if (!last && state.stalled_ticks <= kStalledTicksMax) return;
  for (size_t i = 0; i < tenants.size(); ++i) {
    // Where that segment holds only what others hang on, tails elsewhere go, and moves empty it.
    const TenantId tenant(static_cast<uint16_t>(i));
    if (EvacuateSegment({tenant, {}}, pool, Bytes(0)) == Bytes(0)) EvictOne(tenant, pool);
  }
}

void Engine::State::FinishMoves() {
  for (const CopyCompletion& completion : completions) {
    const std::optional<Move> move = moves.Take(completion.ticket);
    KVTIER_CHECK(move.has_value());
    const RowIndex row = move->row;
    blocks.EndMove(row);
    if (move->source_dropped) Retire(move->source);
    const Block& block = blocks.block(row, move->plane);
    const bool source_is_there = block.best == move->source || block.second == move->source;
    if (completion.status.ok()) {
      counts.verified_bytes += static_cast<uint64_t>(move->bytes.count());
    }
    // Published only if the bytes are there, the chunk is still wanted, and its source was not
    // found bad meanwhile.
    if (completion.status.ok() && source_is_there && !blocks.hidden(row) && !block.second.valid()) {
      allocator(move->destination.pool()).SetOwner(move->destination, row);
      blocks.AddCopy(row, move->plane, move->destination);
      if (!move->keep_source) {
        blocks.RemoveCopy(row, move->plane, move->source);
        Retire(move->source);
      }
      ++counts.moves_done;
      ++moved_in_blocks[move->destination.pool().value()];
      counts.moved_bytes += static_cast<uint64_t>(move->bytes.count());
      Log(row, EventKind::kMoved, move->plane, move->destination.pool());
      policy->OnResidency(row);
    } else {
      ++counts.moves_failed;
      Retire(move->destination);
      if (absl::IsDataLoss(completion.status)) DropBadCopy(row, move->plane, move->source);
    }
    FreeIfUnheld(row);
  }
  completions.clear();
}

void Engine::State::StartMoves(absl::Time now) {
  moves_wanted = false;
  move_looks = kMoveLooksPerTick;
  const uint32_t in_flight_max = std::min(limits.moves_in_flight_max, copies->in_flight_max());
  if (moves.size() >= in_flight_max || !move_budget.available()) {
    moves_wanted = true;
    return;
  }
  ideas.clear();
  PlanEvacuations(in_flight_max - moves.size());
  policy->Plan(now, in_flight_max - moves.size() - ideas.size(), ideas);
  std::fill(missed.begin(), missed.end(), Bytes(0));
  moves_wanted = !ideas.empty();
  for (size_t first = 0; first < ideas.size();) {
    size_t end = first + 1;
    while (end < ideas.size() && ideas[end].row == ideas[first].row &&
           ideas[end].from == ideas[first].from && ideas[end].to == ideas[first].to) {
      ++end;
    }
    if (!move_budget.available() || moves.size() + (end - first) > in_flight_max) return;
    StartRun(first, end);
    first = end;
  }
}

bool Engine::State::MovesStopped(TenantId tenant, PoolId pool) const {
  // At the cap of slots that wait for readers: each move would add one more.
  const SlotAllocator& from = allocator(pool);
  const Bytes retired = from.retired(tenant);
  const Bytes size = std::max(std::min(from.quota(tenant), from.budget()), from.held(tenant));
  const Bytes retired_max(
      static_cast<int64_t>(limits.retired_share_max * static_cast<double>(size.count())));
  return retired > Bytes(0) && retired >= retired_max;
}

void Engine::State::StartRun(size_t first, size_t end) {
  const MoveIdea run = ideas[first];
  if (run.row >= blocks.row_end() || !blocks.live(run.row) || blocks.hidden(run.row)) return;
  KVTIER_CHECK(run.from.value() < allocators.size() && run.to.value() < allocators.size());
  const ModelId model = blocks.model(run.row);
  const TenantId tenant = blocks.tenant(run.row);
  if (MovesStopped(tenant, run.from)) return;

  // Blocks that are where the idea says and nowhere else, and not on their way already: the first
  // of two moves would take the source away under the second. Grouped by slot size for neighbouring
  // destinations.
  std::vector<MoveIdea>& wanted = run_scratch;
  wanted.clear();
  for (size_t i = first; i < end; ++i) {
    if (ideas[i].plane.value() >= blocks.plane_count(model)) continue;
    const Block& block = blocks.block(run.row, ideas[i].plane);
    if (block.best.valid() && block.best.pool() == run.from && !block.second.valid() &&
        blocks.moves(run.row) + wanted.size() < kMovesPerRowMax &&
        !moves.Moves(run.row, ideas[i].plane) &&
        std::none_of(wanted.begin(), wanted.end(),
                     [&](const MoveIdea& earlier) { return earlier.plane == ideas[i].plane; })) {
      wanted.push_back(ideas[i]);
    }
  }
  if (wanted.empty()) return;
  // Making room for a demotion may drop other chunks; this one must stay.
  blocks.Pin(run.row);
  for (size_t i = 0; i < wanted.size();) {
    const auto slot_bytes = [&](const MoveIdea& idea) {
      return allocator(run.to).SlotBytes(blocks.layout(model).plane_bytes[idea.plane.value()]);
    };
    size_t group_end = i + 1;
    while (group_end < wanted.size() && slot_bytes(wanted[group_end]) == slot_bytes(wanted[i]))
      ++group_end;
    std::vector<CopyRef>& slots = destinations_scratch;
    slots.clear();
    const Bytes block_bytes = slot_bytes(wanted[i]);
    if (!AllocateForMove(tenant, run.to, block_bytes, group_end - i, slots)) break;
    for (size_t k = 0; k < slots.size(); ++k) {
      const MoveIdea& idea = wanted[i + k];
      const Block& block = blocks.block(run.row, idea.plane);
      const Bytes bytes = blocks.layout(model).plane_bytes[idea.plane.value()];
      CopyRequest request;
      request.ticket = moves.NextTicket();
      request.source = AddressOf(block.best);
      request.destination = AddressOf(slots[k]);
      request.bytes = bytes;
      request.checksum = block.checksum;
      request.priority = run.to < run.from ? CopyPriority::kPrefetch : CopyPriority::kMigration;
      if (!copies->Submit(request).ok()) {
        allocator(run.to).Free(slots[k]);
        continue;
      }
      blocks.BeginMove(run.row);
      moves.Add(request.ticket,
                Move{run.row, idea.plane, block.best, slots[k], bytes, idea.keep_source});
      move_budget.Spend(bytes);
      ++counts.moves_started;
    }
    i = group_end;
  }
  UnpinRow(run.row);
}

}  // namespace kvtier
