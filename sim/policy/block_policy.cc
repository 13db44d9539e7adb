#include "sim/policy/block_policy.h"

#include <algorithm>
#include <utility>

#include "tiering/base/check.h"
#include "tiering/plan/victim_help.h"

namespace kvtier::sim {
namespace {

// Blocks that one search looks at: it passes over those in use, or moving.
constexpr size_t kPassedMax = 4096;
constexpr size_t kWantedMax = 256;  // whole chunks
constexpr size_t kWantedBlocksMax = 4096;
// Plans until a move that has not come about is asked for again.
constexpr uint32_t kAskAgainAfter = 16;
constexpr uint32_t kPlansPerPhase = 2;

}  // namespace

void BlockPolicy::Bind(const PlacementView* view, BlockCatalog* table) {
  view_ = view;
  table_ = table;
  pool_count_ = view->pool_count();
}

size_t BlockPolicy::PoolOf(BlockId block) const {
  const CopyRef best = table_->block(block.row, PlaneIndex(block.plane)).best;
  return best.valid() ? best.pool().value() : pool_count_;
}

void BlockPolicy::Reorder(BlockId block) {
  const size_t pool = PoolOf(block);
  const size_t index = IndexOf(block);
  if (place_.size() <= index) place_.resize(std::max(index + 1, 2 * place_.size()));
  // A block without a copy is dropped first wherever room is wanted: it has none to lose.
  const Place place{.queue = static_cast<uint32_t>(
                        QueueOf(pool == pool_count_ ? pool_count_ - 1 : pool, block.plane)),
                    .order = pool == pool_count_ ? ~uint64_t{0} : BlockOrder(block)};
  if (place == place_[index]) return;
  Leave(block);
  by_order_[place.queue].insert({place.order, NumberOf(block), block});
  place_[index] = place;
}

void BlockPolicy::Leave(BlockId block) {
  const size_t index = IndexOf(block);
  if (index >= place_.size()) return;
  const Place place = std::exchange(place_[index], Place{});
  if (place.queue != kNoQueue) by_order_[place.queue].erase({place.order, NumberOf(block), block});
}

void BlockPolicy::OnCommit(RowIndex row) {
  if (planes_ == 0) {
    planes_ = static_cast<uint16_t>(table_->plane_count(table_->model(row)));
    by_order_.resize(pool_count_ * (by_plane_ ? planes_ : 1));
  }
  const uint64_t chunk = table_->key(row).high();
  if (row_of_.size() <= chunk) row_of_.resize(chunk + 1, kNoRow);
  row_of_[chunk] = row;
  for (uint16_t plane = 0; plane < planes_; ++plane) {
    Used({row, plane});
    Reorder({row, plane});
  }
}

void BlockPolicy::OnTouch(absl::Span<const RowIndex> rows) {
  // With several planes OnRead says which was read.
  if (planes_ != 1) return;
  for (size_t i = rows.size(); i-- > 0;) {
    Used({rows[i], 0});
    Reorder({rows[i], 0});
  }
}

void BlockPolicy::OnRead(RowIndex row, PlaneIndex plane, uint32_t, double) {
  if (planes_ == 1) return;  // OnTouch follows
  Used({row, plane.value()});
  Reorder({row, plane.value()});
}

void BlockPolicy::OnPrefetch(RowIndex) {}

void BlockPolicy::OnResidency(RowIndex row) {
  for (uint16_t plane = 0; plane < planes_; ++plane) Reorder({row, plane});
}

void BlockPolicy::OnRemove(RowIndex row) {
  const uint64_t chunk = table_->key(row).high();
  if (chunk < row_of_.size() && row_of_[chunk] == row) row_of_[chunk] = kNoRow;
  for (uint16_t plane = 0; plane < planes_; ++plane) Leave({row, plane});
}

void BlockPolicy::PlaceNew(TenantId, ModelId, PlaneIndex, std::vector<PoolId>& pools) {
  for (size_t pool = 0; pool < pool_count_; ++pool)
    pools.push_back(PoolId(static_cast<uint8_t>(pool)));
}

template <typename Visit>
void BlockPolicy::VisitInOrder(size_t queue, Visit visit) const {
  size_t left = kPassedMax;
  for (const Entry& entry : by_order_[queue]) {
    if (left-- == 0 || !visit(entry.block)) return;
  }
}

RowIndex BlockPolicy::Victim(TenantId, PoolId pool) {
  RowIndex victim = kNoRow;
  RowIndex unblocks = kNoRow;
  const size_t each = by_order_.size() / pool_count_;
  for (size_t step = 0; step < by_order_.size() && victim == kNoRow; ++step) {
    VisitInOrder((pool.value() * each + step) % by_order_.size(), [&](BlockId block) {
      if (!table_->Droppable(block.row)) return true;
      const VictimHelp help = HelpOf(*table_, block.row, pool);
      if (help == VictimHelp::kUnblocks && unblocks == kNoRow) unblocks = block.row;
      if (help == VictimHelp::kFrees) victim = block.row;
      return victim == kNoRow;
    });
  }
  return victim == kNoRow ? unblocks : victim;
}

bool BlockPolicy::Ask(BlockId block) {
  const size_t index = IndexOf(block);
  if (asked_.size() <= index) asked_.resize(std::max(index + 1, 2 * asked_.size()));
  if (asked_[index] != 0 && plan_ - asked_[index] < kAskAgainAfter) return false;
  asked_[index] = plan_;
  return true;
}

void BlockPolicy::Plan(absl::Time, size_t ideas_max, std::vector<MoveIdea>& ideas) {
  if (planes_ == 0 || pool_count_ == 1) return;
  // Once when a phase begins, and once again for what has moved meanwhile.
  if (future_->now() == planned_phase_ && ++plans_of_phase_ > kPlansPerPhase) return;
  if (future_->now() != planned_phase_) plans_of_phase_ = 1;
  planned_phase_ = future_->now();
  ++plan_;
  Decide();
  if (wanted_.empty()) return;
  const size_t wanted_max = planes_ == 1 ? kWantedMax : kWantedBlocksMax;
  if (wanted_.size() > wanted_max) wanted_.resize(wanted_max);
  const size_t end = ideas.size() + ideas_max;
  const PoolRoom room = view_->Room(TenantId(0), PoolId(0));
  int64_t free = (room.limit - room.used).count();
  const int64_t slot = view_->SlotBytes(ModelId(0), PlaneIndex(0)).count();
  std::vector<Wanted> waiting;
  for (const Wanted& wanted : wanted_) {
    const BlockId block = wanted.block;
    if (!Live(block, wanted.generation) || PoolOf(block) == 0 || PoolOf(block) == pool_count_)
      continue;
    if (free < slot || ideas.size() >= end) {
      waiting.push_back(wanted);
      continue;
    }
    if (!Ask(block)) continue;
    ideas.push_back({block.row, PlaneIndex(block.plane),
                     PoolId(static_cast<uint8_t>(PoolOf(block))), PoolId(0)});
    free -= slot;
  }
  // For each that found no room another one sinks, to make it by the next time.
  wanted_ = std::move(waiting);
  std::vector<size_t> needed(by_order_.size());
  for (const Wanted& wanted : wanted_) ++needed[QueueOf(0, wanted.block.plane)];
  for (size_t queue = 0; queue < needed.size(); ++queue) {
    if (needed[queue] > 0) Sink(queue, needed[queue], end, ideas);
  }
}

void BlockPolicy::Sink(size_t queue, size_t needed, size_t end, std::vector<MoveIdea>& ideas) {
  auto next = wanted_.begin();
  VisitInOrder(queue, [&](BlockId victim) {
    while (next != wanted_.end() && QueueOf(0, next->block.plane) != queue) ++next;
    if (needed == 0 || next == wanted_.end() || ideas.size() >= end) return false;
    if (!MayReplace(victim, next->block)) return false;
    if (Ask(victim))  // else it is on its way
      ideas.push_back({victim.row, PlaneIndex(victim.plane), PoolId(0), PoolId(1)});
    if (Empties()) return true;
    --needed;
    ++next;
    return true;
  });
}

}  // namespace kvtier::sim
