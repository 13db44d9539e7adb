// What can be seen of the engine from outside.
#include <algorithm>
#include <vector>

#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/engine/engine_state.h"

namespace kvtier {

const EventLog& Engine::events(TenantId tenant) const { return state_->logs[tenant.value()]; }

EngineCounters Engine::counters() const {
  EngineCounters counts = state_->counts;
  if (state_->share != nullptr) {
    counts.index_refusals = state_->share->index_refusals();
    counts.section_scans = state_->share->section_scans();
  }
  return counts;
}

const PlacementPolicy& Engine::policy() const { return *state_->policy; }

EngineTotals Engine::Totals(std::optional<TenantId> tenant) const {
  const State& s = *state_;
  EngineTotals totals;
  for (uint16_t i = 0; s.share != nullptr && i < s.tenants.size(); ++i) {
    if (tenant && *tenant != TenantId(i)) continue;
    totals.index_entries += s.share->index_entries(TenantId(i));
    totals.index_entries_max += s.Share(s.limits.chunks_max);
  }
  totals.moves_in_flight = s.moves.size();
  if (!tenant) {
    totals.sessions = s.sessions.size();
    totals.leases = s.leases.size();
    totals.reservations = s.reservations.size();
    totals.chunks = s.blocks.row_count();
    totals.blocks = s.blocks.block_count();
    totals.models = s.specs.size();
    return totals;
  }
  const TenantUse& use = s.use[tenant->value()];
  totals.sessions = use.sessions;
  totals.leases = use.leases;
  totals.reservations = use.reservations;
  totals.models = use.models;
  totals.chunks = s.blocks.row_count(*tenant);
  totals.blocks = s.blocks.block_count(*tenant);
  return totals;
}

std::vector<PoolStatus> Engine::Pools() const {
  const State& s = *state_;
  std::vector<PoolStatus> result;
  for (size_t i = 0; i < s.pools.size(); ++i) {
    const SlotAllocator& slots = *s.allocators[i];
    PoolStatus pool;
    pool.description = s.pools[i]->description();
    pool.budget = slots.budget();
    pool.segment_bytes = s.pools[i]->segment_bytes();
    pool.limit = pool.segment_bytes * s.pools[i]->segments_max();
    pool.segments = slots.segments();
    pool.used = slots.used();
    pool.mean_run_length = slots.mean_run_length();
    pool.moved_in_blocks = s.moved_in_blocks[i];
    for (size_t t = 0; t < s.tenants.size(); ++t) {
      const TenantId tenant(static_cast<uint16_t>(t));
      pool.tenants.push_back(
          {.quota = slots.quota(tenant), .used = slots.used(tenant), .kept = slots.kept(tenant)});
      pool.retired += slots.retired(tenant);
    }
    result.push_back(std::move(pool));
  }
  return result;
}

Bytes Engine::MetadataBytes() const {
  const State& s = *state_;
  Bytes total = s.blocks.metadata_bytes() + s.sessions.metadata_bytes() +
                s.leases.metadata_bytes() + s.reservations.metadata_bytes();
  for (const auto& slots : s.allocators) total += slots->metadata_bytes();
  if (s.share != nullptr) total += s.share->metadata_bytes();
  return total;
}

std::vector<ChunkInfo> Engine::ListChunks(TenantId tenant, uint64_t& cursor, size_t limit) const {
  const BlockCatalog& blocks = state_->blocks;
  std::vector<ChunkInfo> result;
  // A call looks at a bounded number of rows, so that another tenant's chunks cannot make it long.
  constexpr uint64_t kRowsPerCallMax = 1'000'000;
  const uint64_t stop = std::min<uint64_t>(blocks.row_end(), cursor + kRowsPerCallMax);
  for (; cursor < stop && result.size() < limit; ++cursor) {
    const auto row = static_cast<RowIndex>(cursor);
    if (!blocks.live(row) || blocks.tenant(row) != tenant) continue;
    ChunkInfo info;
    info.key = blocks.key(row);
    if (blocks.parent(row) != kNoRow) info.parent_key = blocks.key(blocks.parent(row));
    info.model = blocks.model(row);
    info.token_count = blocks.token_count(row);
    info.leases = blocks.leases(row);
    info.has_children = blocks.first_child(row) != kNoRow;
    info.hidden = blocks.hidden(row);
    info.blocks_by_pool.assign(state_->pools.size(), 0);
    const auto& plane_bytes = blocks.layout(info.model).plane_bytes;
    for (size_t i = 0; i < plane_bytes.size(); ++i) {
      const Block& block = blocks.block(row, PlaneIndex(static_cast<uint16_t>(i)));
      if (block.best.valid()) info.bytes += plane_bytes[i];
      for (const CopyRef copy : {block.best, block.second}) {
        if (copy.valid()) ++info.blocks_by_pool[copy.pool().value()];
      }
    }
    result.push_back(std::move(info));
  }
  if (cursor >= blocks.row_end()) cursor = 0;
  return result;
}

absl::StatusOr<Bytes> Engine::SetBudget(PoolId pool, Bytes budget) {
  State& s = *state_;
  if (pool.value() >= s.allocators.size()) {
    return absl::NotFoundError(
        absl::StrFormat("pool %d: there are %d pools", pool.value(), s.allocators.size()));
  }
  const Bytes before = s.allocator(pool).budget();
  KVTIER_RETURN_IF_ERROR(s.allocator(pool).SetBudget(budget));
  return before;
}

void Engine::CheckInvariants() const {
  const State& s = *state_;
  s.blocks.CheckInvariants();
  if (s.share != nullptr) s.share->CheckInvariants();
  Bytes accounted;
  std::vector<uint64_t> room(s.tenants.size());  // blocks, there or not
  for (RowIndex row = 0; row < s.blocks.row_end(); ++row) {
    if (!s.blocks.live(row)) continue;
    const size_t planes = s.blocks.plane_count(s.blocks.model(row));
    room[s.blocks.tenant(row).value()] += planes;
    for (size_t i = 0; i < planes; ++i) {
      const Block& block = s.blocks.block(row, PlaneIndex(static_cast<uint16_t>(i)));
      for (const CopyRef copy : {block.best, block.second}) {
        if (!copy.valid()) continue;
        KVTIER_CHECK(s.allocator(copy.pool()).owner(copy) == row);
        KVTIER_CHECK(s.CheckSealed(copy).ok());
        accounted += s.allocator(copy.pool()).SlotBytesOf(copy);
      }
    }
  }
  std::vector<TenantUse> counted(s.tenants.size());
  const auto count_of = [&](SessionId session) -> TenantUse& {
    const Session* found = s.sessions.Find(session.value());
    KVTIER_CHECK(found != nullptr);
    return counted[found->tenant.value()];
  };
  for (uint32_t i = 0; i < s.sessions.slot_count(); ++i) {
    const uint64_t session = s.sessions.HandleAt(i);
    if (session != 0) ++count_of(SessionId(session)).sessions;
  }
  for (uint32_t i = 0; i < s.leases.slot_count(); ++i) {
    const Lease* lease = s.leases.Find(s.leases.HandleAt(i));
    if (lease == nullptr) continue;
    ++count_of(lease->session).leases;
    count_of(lease->session).leased_chunks += lease->rows.size();
  }
  for (uint32_t i = 0; i < s.reservations.slot_count(); ++i) {
    const Reservation* reservation = s.reservations.Find(s.reservations.HandleAt(i));
    if (reservation == nullptr) continue;
    ++count_of(reservation->session).reservations;
    for (const CopyRef slot : reservation->slots) {
      if (!slot.valid()) continue;
      accounted += s.allocator(slot.pool()).SlotBytesOf(slot);
      KVTIER_CHECK(s.allocator(slot.pool()).writer(slot) == reservation->writer);
    }
  }
  for (const RegisteredSpec& spec : s.specs) ++counted[spec.tenant.value()].models;
  Bytes used;
  for (size_t i = 0; i < s.allocators.size(); ++i) {
    s.allocators[i]->CheckInvariants();
    used += s.allocators[i]->used();
    for (size_t t = 0; t < s.tenants.size(); ++t)
      accounted += s.allocators[i]->retired(TenantId(static_cast<uint16_t>(t)));
  }
  for (size_t i = 0; i < s.tenants.size(); ++i) {
    const TenantUse& use = s.use[i];
    KVTIER_CHECK(use.sessions == counted[i].sessions && use.models == counted[i].models);
    KVTIER_CHECK(use.leases == counted[i].leases && use.reservations == counted[i].reservations);
    KVTIER_CHECK(use.leased_chunks == counted[i].leased_chunks);
    KVTIER_CHECK(use.chunks == s.blocks.row_count(TenantId(static_cast<uint16_t>(i))));
    KVTIER_CHECK(use.blocks == room[i]);
  }
  KVTIER_CHECK(s.incomplete.size() <= 2 * size_t{s.limits.chunks_max} + 64);
  // Destinations of moves in flight are the only slots that none of these own.
  KVTIER_CHECK(accounted <= used && (s.moves.size() > 0 || accounted == used));
}

}  // namespace kvtier
