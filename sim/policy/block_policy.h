// What policies of the simulator have in common that decide about single blocks, a chunk in a
// plane, and may know the future.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "sim/policy/access_future.h"
#include "tiering/plan/placement_policy.h"

namespace kvtier::sim {

// Of one tenant and one model, whose chunks have the keys of SimChunkKey. New blocks go to the
// fastest pool with room. Blocks below the fastest pool that a policy wants there are promoted;
// where there is no room, blocks that it says can go sink to the next pool first. What is dropped
// when the last pool is full is the block with the highest order (BlockOrder), tails first among
// equals; a derived policy calls Reorder when a block's order has changed. Not thread-safe.
class BlockPolicy : public PlacementPolicy {
 public:
  // `future` outlives this. With `by_plane` a block sinks only for one of its own plane.
  explicit BlockPolicy(AccessFuture* future, bool by_plane = false)
      : future_(future), by_plane_(by_plane) {}

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
  struct BlockId {
    RowIndex row = kNoRow;
    uint16_t plane = 0;
    friend bool operator==(const BlockId&, const BlockId&) = default;
  };

  // Blocks with a higher order go first, from any pool.
  virtual uint64_t BlockOrder(BlockId block) = 0;
  // The block was read, or is new.
  virtual void Used(BlockId /*block*/) {}
  // Called by each Plan before anything is moved: fills `wanted()`.
  virtual void Decide() {}
  // All that may sink for a wanted block does, not only as much as is needed.
  virtual bool Empties() const { return false; }
  // Whether `victim`, the first to go of the fastest pool, may sink for `wanted`.
  virtual bool MayReplace(BlockId victim, BlockId wanted) = 0;

  AccessFuture* future() const { return future_; }
  const BlockCatalog& table() const { return *table_; }
  uint64_t NumberOf(BlockId block) const {
    return table_->key(block.row).high() * planes_ + block.plane;
  }
  uint16_t planes() const { return planes_; }
  // Where its best copy is; pool_count() if it has none.
  size_t PoolOf(BlockId block) const;
  size_t pool_count() const { return pool_count_; }
  bool Live(BlockId block, uint32_t generation) const {
    return table_->live(block.row) && !table_->hidden(block.row) &&
           table_->generation(block.row) == generation;
  }
  // Row of the chunk of that number; kNoRow when it is not there.
  RowIndex RowOf(uint64_t chunk) const { return chunk < row_of_.size() ? row_of_[chunk] : kNoRow; }
  // Its order is looked up again.
  void Reorder(BlockId block);
  // To be promoted, the most valuable first; some hundred of them are looked at. What was asked for
  // goes, what found no room stays.
  struct Wanted {
    BlockId block;
    uint32_t generation = 0;  // of its row
  };
  std::vector<Wanted>& wanted() { return wanted_; }
  void Want(BlockId block) { wanted_.push_back({block, table_->generation(block.row)}); }

 private:
  // A block by its order; among equals the highest number goes first: children have higher ones
  // than parents.
  struct Entry {
    uint64_t order;
    uint64_t number;
    BlockId block;
    bool operator<(const Entry& other) const {
      return std::pair(order, number) > std::pair(other.order, other.number);
    }
  };
  static constexpr uint32_t kNoQueue = 0xffffffff;
  // The queue that a block is in, and its order there.
  struct Place {
    uint32_t queue = kNoQueue;
    uint64_t order = 0;
    friend bool operator==(const Place&, const Place&) = default;
  };

  size_t QueueOf(size_t pool, uint16_t plane) const {
    return by_plane_ ? pool * planes_ + plane : pool;
  }
  // What has to sink for what is wanted, of one queue.
  void Sink(size_t queue, size_t needed, size_t end, std::vector<MoveIdea>& ideas);
  size_t IndexOf(BlockId block) const { return block.row * planes_ + block.plane; }
  // Takes the block out of the queue that it is in, if any.
  void Leave(BlockId block);
  // False when a move of the block was asked for a short while ago.
  bool Ask(BlockId block);
  // The queue's blocks from the highest order on, as long as `visit` returns true, and some
  // thousands at most.
  template <typename Visit>
  void VisitInOrder(size_t queue, Visit visit) const;

  AccessFuture* future_;
  const bool by_plane_;
  const PlacementView* view_ = nullptr;
  BlockCatalog* table_ = nullptr;
  size_t pool_count_ = 0;
  uint16_t planes_ = 0;
  std::vector<Place> place_;                      // by row and plane
  std::vector<absl::btree_set<Entry>> by_order_;  // QueueOf
  std::vector<RowIndex> row_of_;                  // by number of chunk
  std::vector<Wanted> wanted_;
  std::vector<uint32_t> asked_;  // by row and plane: the plan that asked for a move of it last
  uint32_t plan_ = 0;
  uint32_t planned_phase_ = kNever;
  uint32_t plans_of_phase_ = 0;
};

}  // namespace kvtier::sim
