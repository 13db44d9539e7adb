// Least recently used, by chunk, over all pools: what is read comes to the fastest pool, what is
// not sinks.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "tiering/plan/chunk_lru.h"
#include "tiering/plan/placement_policy.h"

namespace kvtier {

// One list per tenant and pool; a chunk is in the list of the fastest pool that has one of its
// blocks. Prefixes are touched from the tail to the head, so that a tail that was looked up is
// older than what it hangs on; new chunks come to the front as they are committed, behind their
// parents. A chunk with a child cannot be dropped, so tails go first in any case. Every pool but
// the last keeps kFreeShare of its room free by demoting its oldest chunks; a touched chunk with
// blocks below the fastest pool is promoted while there is room. What a prefetch names is asked for
// until it is there, for at most kPrefetchPatience: demotions make its room meanwhile. A chunk that
// comes up as a victim and is in use becomes as recent as the leaf that hangs on it, or most recent
// when it is leased: that keeps the search short.
class LruPolicy : public PlacementPolicy {
 public:
  static std::unique_ptr<PlacementPolicy> Create() { return std::make_unique<LruPolicy>(); }

  const char* name() const override { return "lru"; }
  void Bind(const PlacementView* view, BlockTable* table) override;
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

 private:
  struct Promotion {
    RowIndex row;
    uint32_t generation;
    TenantId tenant;
    absl::Time until = absl::InfinitePast();  // of a prefetch; set by the first Plan that sees it
    bool tried = false;
  };

  size_t ListFor(TenantId tenant, size_t pool) const { return tenant.value() * pool_count_ + pool; }
  // Puts the row into the list of its fastest pool and notes whether a block is below it.
  void Refile(RowIndex row);
  void QueuePromotion(RowIndex row);
  // Appends moves of the row's blocks out of `from`, one pool down, until `ideas` has `end`
  // entries; takes their slot bytes off `surplus`. False when it was cut short.
  bool Demote(RowIndex row, PoolId from, size_t end, std::vector<MoveIdea>& ideas,
              int64_t& surplus) const;
  void PlanDemotions(TenantId tenant, PoolId pool, size_t end, std::vector<MoveIdea>& ideas);
  void PlanPromotions(absl::Time now, size_t end, std::vector<MoveIdea>& ideas);
  // Ideas for what of the row is below the fastest pool, as far as `room` bytes there go. False
  // when `ideas` had `end` entries before that.
  bool Promote(RowIndex row, size_t end, std::vector<MoveIdea>& ideas, int64_t& room) const;
  // A prefetch that found no room, or not for all, is tried again.
  bool TriedAgain(Promotion& promotion, absl::Time now) const;

  const PlacementView* view_ = nullptr;
  BlockTable* table_ = nullptr;
  std::unique_ptr<ChunkLru> lru_;
  size_t pool_count_ = 0;
  size_t first_tenant_ = 0;  // of the last Plan
  std::deque<Promotion> promotions_;
  std::vector<size_t> queued_;  // promotions by tenant: none fills the queue for the others
  // By tenant, bytes that the last Plan and this one asked for not for the first time.
  std::vector<int64_t> retried_, retrying_;
};

}  // namespace kvtier
