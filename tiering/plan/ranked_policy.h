// What policies have in common that rank whole chunks by their use, over all pools: what is read
// comes to the fastest pool, what is of least use sinks, and at last goes.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "tiering/plan/chunk_lru.h"
#include "tiering/plan/placement_policy.h"

namespace kvtier {

// One list per tenant, pool and rank; a chunk is in the lists of the fastest pool that has one of
// its blocks. What goes first is at the back of the lowest rank's list. Prefixes are touched from
// the tail to the head, so that a tail that was looked up is older than what it hangs on; new
// chunks come to the front as they are committed, behind their parents. A chunk with a child cannot
// be dropped, so tails go first in any case. Every pool but the last keeps kFreeShare of its room
// free by demoting what goes first there; a touched chunk with blocks below the fastest pool is
// promoted while there is room. What a prefetch names is asked for until it is there, for at most
// kPrefetchPatience: demotions make its room meanwhile. A chunk that comes up as a victim and is in
// use becomes as recent as the leaf that hangs on it, or most recent when it is leased: that keeps
// the search short.
class RankedPolicy : public PlacementPolicy {
 public:
  void Bind(const PlacementView* view, BlockCatalog* table) override;
  void OnCommit(RowIndex row) override;
  void OnTouch(absl::Span<const RowIndex> rows) override;
  void OnRead(RowIndex row, PlaneIndex plane, uint32_t steps, double mass) override;
  void OnPrefetch(RowIndex row) override;
  void OnResidency(RowIndex row) override;
  void OnRemove(RowIndex row) override;
  void PlaceNew(TenantId tenant, ModelId model, PlaneIndex plane,
                std::vector<PoolId>& pools) override;
  RowIndex Victim(TenantId tenant, PoolId pool) override;
  void Plan(absl::Time now, size_t ideas_max, std::vector<MoveIdea>& ideas) override;

 protected:
  // Flags of a row (ChunkLru::kFlagsMask) that are left to what derives from it.
  static constexpr uint32_t kOwnFlagsShift = 27;

  // Ranks are below `rank_count`, 1 or more; lower ones go first.
  explicit RankedPolicy(size_t rank_count) : rank_count_(rank_count) {}

  // A chunk that is in no list yet: where it comes in.
  virtual size_t NewRank(RowIndex row) = 0;
  // A chunk in a list was read once more, or is about to be.
  virtual void Touched(RowIndex row) = 0;
  // A chunk in a list is about to leave it for good.
  virtual void Leaves(RowIndex /*row*/) {}
  // Of which rank the next victim in this pool should be, if there is one that helps. Others
  // follow, from the lowest on.
  virtual size_t FirstRank(TenantId /*tenant*/) { return 0; }
  // A chunk came up as a victim. True: it was given another place instead.
  virtual bool Spared(RowIndex /*row*/) { return false; }

  ChunkLru& lists() { return *lists_; }
  const BlockCatalog& table() const { return *table_; }
  const PlacementView& view() const { return *view_; }
  size_t RankOf(RowIndex row) const { return lists_->ListOf(row) % rank_count_; }
  // To the front of that rank, in the pool where it is.
  void MoveToRank(RowIndex row, size_t rank);

 private:
  struct Promotion {
    RowIndex row;
    uint32_t generation;
    TenantId tenant;
    absl::Time until = absl::InfinitePast();  // of a prefetch; set by the first Plan that sees it
    bool tried = false;
  };

  size_t ListFor(TenantId tenant, size_t pool, size_t rank) const {
    return (tenant.value() * pool_count_ + pool) * rank_count_ + rank;
  }
  // Puts the row into a list of its fastest pool and notes whether a block is below it.
  void Refile(RowIndex row);
  // A victim for `pool` out of one list; one that is only second best is kept in `unblocks`.
  RowIndex VictimOf(size_t list, PoolId pool, RowIndex& unblocks);
  void QueuePromotion(RowIndex row);
  // Appends moves of the row's blocks out of `from`, one pool down, until `ideas` has `end`
  // entries; takes their slot bytes off `surplus`. False when it was cut short.
  bool Demote(RowIndex row, PoolId from, size_t end, std::vector<MoveIdea>& ideas,
              int64_t& surplus) const;
  void PlanDemotions(TenantId tenant, PoolId pool, size_t end, std::vector<MoveIdea>& ideas);
  // The same of one list, from its back on. False when it was cut short.
  bool DemoteList(size_t list, PoolId pool, size_t end, std::vector<MoveIdea>& ideas,
                  int64_t& surplus, int& scanned) const;
  void PlanPromotions(absl::Time now, size_t end, std::vector<MoveIdea>& ideas);
  // Ideas for what of the row is below the fastest pool, as far as `room` bytes there go. False
  // when `ideas` had `end` entries before that.
  bool Promote(RowIndex row, size_t end, std::vector<MoveIdea>& ideas, int64_t& room) const;
  // A prefetch that found no room, or not for all, is tried again.
  bool TriedAgain(Promotion& promotion, absl::Time now) const;

  const size_t rank_count_;
  const PlacementView* view_ = nullptr;
  BlockCatalog* table_ = nullptr;
  std::unique_ptr<ChunkLru> lists_;
  size_t pool_count_ = 0;
  size_t first_tenant_ = 0;  // of the last Plan
  std::deque<Promotion> promotions_;
  std::vector<size_t> queued_;  // promotions by tenant: none fills the queue for the others
  // By tenant, bytes that the last Plan and this one asked for not for the first time.
  std::vector<int64_t> retried_, retrying_;
};

}  // namespace kvtier
