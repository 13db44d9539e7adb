#include "tiering/plan/ranked_policy.h"

#include <algorithm>

#include "tiering/plan/victim_help.h"

namespace kvtier {
namespace {

constexpr uint32_t kBelowFastest = 1u << 24;  // a block's best copy is not in pool 0
constexpr uint32_t kQueued = 1u << 25;        // waits in promotions_
constexpr uint32_t kPrefetched = 1u << 26;    // a queued one that was asked for by a hint

constexpr size_t kPromotionsMax = 4096;
// Rows of one list that one search for a victim looks at, and of those that were given another
// place instead. A list that is left too early lets a chunk of a higher rank go.
constexpr int kRankedScanMax = 64;
constexpr int kSparedMax = 1024;
constexpr int kDemotionScanMax = 256;
// Room that demotion keeps free: what arrives between two ticks must find a place in the fast pool.
constexpr int64_t kFreeShare = 8;
constexpr absl::Duration kPrefetchPatience = absl::Seconds(5);

}  // namespace

void RankedPolicy::Bind(const PlacementView* view, BlockCatalog* table) {
  view_ = view;
  table_ = table;
  pool_count_ = view->pool_count();
  queued_.resize(view->tenant_count());
  retried_.resize(view->tenant_count());
  retrying_.resize(view->tenant_count());
  lists_ = std::make_unique<ChunkLru>(table, view->tenant_count() * pool_count_ * rank_count_);
}

void RankedPolicy::Refile(RowIndex row) {
  size_t fastest = pool_count_;
  bool below = false;
  const size_t planes = table_->plane_count(table_->model(row));
  for (size_t i = 0; i < planes; ++i) {
    const Block& block = table_->block(row, PlaneIndex(static_cast<uint16_t>(i)));
    if (!block.best.valid()) continue;
    const size_t pool = block.best.pool().value();
    fastest = std::min(fastest, pool);
    below |= pool > 0;
  }
  lists_->SetFlag(row, kBelowFastest, below);
  if (fastest == pool_count_) {  // every copy is lost; it stays where it is until it is dropped
    if (lists_->Contains(row)) return;
    fastest = pool_count_ - 1;
  }
  if (!lists_->Contains(row)) {
    lists_->PushFront(row, ListFor(table_->tenant(row), fastest, NewRank(row)));
    return;
  }
  const size_t list = ListFor(table_->tenant(row), fastest, RankOf(row));
  if (lists_->ListOf(row) == list) return;
  lists_->Remove(row);
  lists_->PushFront(row, list);
}

void RankedPolicy::OnCommit(RowIndex row) {
  Refile(row);
  lists_->FileCommit(row);
}

void RankedPolicy::OnTouch(absl::Span<const RowIndex> rows) {
  for (size_t i = rows.size(); i-- > 0;) {
    if (!lists_->Contains(rows[i])) continue;
    Touched(rows[i]);
    if (lists_->HasFlag(rows[i], kBelowFastest)) QueuePromotion(rows[i]);
  }
}

// Whole chunks are ranked; how much attention a block got is for policies that rank by it.
void RankedPolicy::OnRead(RowIndex, PlaneIndex, uint32_t, double) {}

void RankedPolicy::OnPrefetch(RowIndex row) {
  OnTouch(absl::MakeConstSpan(&row, 1));
  if (lists_->HasFlag(row, kQueued)) lists_->SetFlag(row, kPrefetched, true);
}

void RankedPolicy::OnResidency(RowIndex row) {
  if (lists_->Contains(row)) Refile(row);
}

void RankedPolicy::OnRemove(RowIndex row) {
  if (!lists_->Contains(row)) return;
  Leaves(row);
  lists_->Remove(row);
}

void RankedPolicy::MoveToRank(RowIndex row, size_t rank) {
  const size_t list = lists_->ListOf(row) - RankOf(row) + rank;
  if (list == lists_->ListOf(row)) {
    lists_->MoveToFront(row);
    return;
  }
  lists_->Remove(row);
  lists_->PushFront(row, list);
}

void RankedPolicy::PlaceNew(TenantId, ModelId, PlaneIndex, std::vector<PoolId>& pools) {
  for (size_t pool = 0; pool < pool_count_; ++pool)
    pools.push_back(PoolId(static_cast<uint8_t>(pool)));
}

RowIndex RankedPolicy::Victim(TenantId tenant, PoolId pool) {
  RowIndex unblocks = kNoRow;
  const size_t first = FirstRank(tenant);
  // The pool's own lists first; a chunk that straddles pools is in a faster one's list, or in the
  // last one's when all its copies were lost.
  for (size_t step = 0; step < pool_count_; ++step) {
    const size_t lists = ListFor(tenant, (pool.value() + step) % pool_count_, 0);
    RowIndex victim = VictimOf(lists + first, pool, unblocks);
    for (size_t rank = 0; rank < rank_count_ && victim == kNoRow; ++rank) {
      if (rank != first) victim = VictimOf(lists + rank, pool, unblocks);
    }
    if (victim != kNoRow) return victim;
  }
  return unblocks;
}

RowIndex RankedPolicy::VictimOf(size_t list, PoolId pool, RowIndex& unblocks) {
  RowIndex row = lists_->Back(list);
  ChunkLru::Descent descent;
  int spared = 0;
  for (int scanned = 0; row != kNoRow && scanned < kRankedScanMax && spared < kSparedMax;) {
    const RowIndex next = lists_->TowardsFront(row);
    if (Spared(row)) {
      ++spared;
      row = next;
      continue;
    }
    ++scanned;
    if (!table_->Droppable(row)) {
      lists_->MoveNextToLeaf(row, descent);
    } else {
      const VictimHelp help = HelpOf(*table_, row, pool);
      if (help == VictimHelp::kFrees) return row;
      if (help == VictimHelp::kUnblocks && unblocks == kNoRow) unblocks = row;
    }
    row = next;
  }
  return kNoRow;
}

void RankedPolicy::QueuePromotion(RowIndex row) {
  size_t& queued = queued_[table_->tenant(row).value()];
  if (lists_->HasFlag(row, kQueued) || queued >= kPromotionsMax / queued_.size()) return;
  ++queued;
  lists_->SetFlag(row, kQueued, true);
  promotions_.push_back({row, table_->generation(row), table_->tenant(row)});
}

void RankedPolicy::Plan(absl::Time now, size_t ideas_max, std::vector<MoveIdea>& ideas) {
  // Promotions first: they serve what was just asked for; the room that demotions keep free is
  // theirs.
  const size_t end = ideas.size() + ideas_max;
  std::swap(retried_, retrying_);
  std::fill(retrying_.begin(), retrying_.end(), 0);
  PlanPromotions(now, ideas.size() + (ideas_max + 1) / 2, ideas);
  // Another tenant first each time: one may have enough for all of this call.
  const size_t tenants = view_->tenant_count();
  first_tenant_ = (first_tenant_ + 1) % tenants;
  for (size_t step = 0; step < tenants; ++step) {
    const TenantId tenant(static_cast<uint16_t>((first_tenant_ + step) % tenants));
    for (size_t pool = 0; pool + 1 < pool_count_; ++pool) {
      if (ideas.size() >= end) return;
      const PoolId from(static_cast<uint8_t>(pool));
      if (!view_->MovesStopped(tenant, from)) PlanDemotions(tenant, from, end, ideas);
    }
  }
}

bool RankedPolicy::Demote(RowIndex row, PoolId from, size_t end, std::vector<MoveIdea>& ideas,
                          int64_t& surplus) const {
  const ModelId model = table_->model(row);
  const size_t planes = table_->plane_count(model);
  for (size_t i = 0; i < planes; ++i) {
    const PlaneIndex plane(static_cast<uint16_t>(i));
    const Block& block = table_->block(row, plane);
    if (!block.best.valid() || block.best.pool() != from || block.second.valid()) continue;
    if (ideas.size() == end) return false;
    ideas.push_back({row, plane, from, PoolId(static_cast<uint8_t>(from.value() + 1))});
    surplus -= view_->SlotBytes(model, plane).count();
  }
  return true;
}

void RankedPolicy::PlanDemotions(TenantId tenant, PoolId pool, size_t end,
                                 std::vector<MoveIdea>& ideas) {
  const PoolRoom room = view_->Room(tenant, pool);
  const int64_t used_target = room.limit.count() - room.limit.count() / kFreeShare;
  // Where slots of one size have run out although bytes are left, as much goes as was missed; once
  // for what is asked for again and again.
  const int64_t again = pool == PoolId(0) ? retried_[tenant.value()] : 0;
  const int64_t missed = std::min(room.missed.count() - again, room.limit.count() / kFreeShare);
  int64_t surplus = std::max(room.used.count() - used_target, missed);
  const size_t first = FirstRank(tenant);
  int scanned = 0;
  for (size_t i = 0; i <= rank_count_ && surplus > 0; ++i) {
    // The rank that goes first, then all others from the lowest on.
    const size_t rank = i == 0 ? first : i - 1;
    if (i > 0 && rank == first) continue;
    if (!DemoteList(ListFor(tenant, pool.value(), rank), pool, end, ideas, surplus, scanned))
      return;
  }
}

bool RankedPolicy::DemoteList(size_t list, PoolId pool, size_t end, std::vector<MoveIdea>& ideas,
                              int64_t& surplus, int& scanned) const {
  RowIndex row = lists_->Back(list);
  for (; row != kNoRow && surplus > 0 && scanned < kDemotionScanMax; ++scanned) {
    if (table_->moves(row) > 0) {
      // Already on its way out: its room comes free without another idea.
      const size_t planes = table_->plane_count(table_->model(row));
      for (size_t i = 0; i < planes; ++i) {
        surplus -=
            view_->SlotBytes(table_->model(row), PlaneIndex(static_cast<uint16_t>(i))).count();
      }
    } else if (!Demote(row, pool, end, ideas, surplus)) {
      return false;
    }
    row = lists_->TowardsFront(row);
  }
  return true;
}

void RankedPolicy::PlanPromotions(absl::Time now, size_t end, std::vector<MoveIdea>& ideas) {
  std::vector<int64_t> rooms(view_->tenant_count(), -1);
  for (size_t left = promotions_.size(); left > 0 && ideas.size() < end; --left) {
    Promotion promotion = promotions_.front();
    promotions_.pop_front();
    const RowIndex row = promotion.row;
    const bool there = table_->live(row) && table_->generation(row) == promotion.generation;
    if (there && table_->moves(row) > 0) {
      promotions_.push_back(promotion);
      continue;
    }
    bool again = false;
    if (there && lists_->Contains(row)) {
      int64_t& room = rooms[promotion.tenant.value()];
      if (room < 0) {
        const PoolRoom fastest = view_->Room(promotion.tenant, PoolId(0));
        room = std::max<int64_t>(0, (fastest.limit - fastest.used).count());
      }
      const int64_t before = room;
      // The rest of a chunk with many planes comes next time.
      again = !Promote(row, end, ideas, room) || TriedAgain(promotion, now);
      if (promotion.tried) retrying_[promotion.tenant.value()] += before - room;
      promotion.tried = true;
    }
    if (again) {
      promotions_.push_back(promotion);
      continue;
    }
    --queued_[promotion.tenant.value()];
    if (there) lists_->SetFlag(row, kQueued | kPrefetched, false);
  }
}

bool RankedPolicy::Promote(RowIndex row, size_t end, std::vector<MoveIdea>& ideas,
                           int64_t& room) const {
  const ModelId model = table_->model(row);
  const size_t planes = table_->plane_count(model);
  for (size_t i = 0; i < planes; ++i) {
    const PlaneIndex plane(static_cast<uint16_t>(i));
    const Block& block = table_->block(row, plane);
    if (!block.best.valid() || block.best.pool().value() == 0 || block.second.valid()) continue;
    if (view_->MovesStopped(table_->tenant(row), block.best.pool())) continue;
    const int64_t bytes = view_->SlotBytes(model, plane).count();
    if (bytes > room) break;  // no room now; a later touch asks again
    if (ideas.size() == end) return false;
    room -= bytes;
    ideas.push_back({row, plane, block.best.pool(), PoolId(0)});
  }
  return true;
}

bool RankedPolicy::TriedAgain(Promotion& promotion, absl::Time now) const {
  if (!lists_->HasFlag(promotion.row, kPrefetched) ||
      !lists_->HasFlag(promotion.row, kBelowFastest))
    return false;
  if (promotion.until == absl::InfinitePast()) promotion.until = now + kPrefetchPatience;
  return now < promotion.until;
}

}  // namespace kvtier
