// A fixed share of every chunk's planes in each pool, nothing ever moved: the baseline that a plan
// has to beat.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "tiering/plan/chunk_lru.h"
#include "tiering/plan/placement_policy.h"

namespace kvtier {

// Planes in their order fill the pools in their order: with shares {0.25, 0.75}, the first quarter
// of the planes lives in pool 0. Victims are the least recently used chunks of the tenant, tails
// first.
class StaticSplitPolicy : public PlacementPolicy {
 public:
  // INVALID_ARGUMENT unless the shares are between 0 and 1 and sum to 1.
  static absl::StatusOr<std::unique_ptr<PlacementPolicy>> Create(std::vector<double> share_by_pool);

  const char* name() const override { return "static"; }
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

 private:
  explicit StaticSplitPolicy(std::vector<double> share_by_pool)
      : share_(std::move(share_by_pool)) {}

  std::vector<double> share_;
  BlockCatalog* table_ = nullptr;
  size_t pool_count_ = 0;
  std::unique_ptr<ChunkLru> lru_;
};

}  // namespace kvtier
