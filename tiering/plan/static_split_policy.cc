#include "tiering/plan/static_split_policy.h"

#include <cmath>

#include "absl/strings/str_format.h"
#include "tiering/plan/victim_help.h"

namespace kvtier {
namespace {

constexpr int kStaticScanMax = 256;

}  // namespace

absl::StatusOr<std::unique_ptr<PlacementPolicy>> StaticSplitPolicy::Create(
    std::vector<double> share_by_pool) {
  double sum = 0;
  for (const double share : share_by_pool) {
    if (!(share >= 0 && share <= 1)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("static policy: a share is %g; 0 to 1 is allowed", share));
    }
    sum += share;
  }
  if (std::abs(sum - 1) > 1e-6) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "static policy: %d shares sum to %g instead of 1", share_by_pool.size(), sum));
  }
  return std::unique_ptr<PlacementPolicy>(new StaticSplitPolicy(std::move(share_by_pool)));
}

void StaticSplitPolicy::Bind(const PlacementView* view, BlockCatalog* table) {
  table_ = table;
  pool_count_ = view->pool_count();
  share_.resize(pool_count_, 0);
  lru_ = std::make_unique<ChunkLru>(table, view->tenant_count());
}

void StaticSplitPolicy::OnCommit(RowIndex row) {
  if (!lru_->Contains(row)) lru_->PushFront(row, table_->tenant(row).value());
  lru_->FileCommit(row);
}

void StaticSplitPolicy::OnTouch(absl::Span<const RowIndex> rows) {
  for (size_t i = rows.size(); i-- > 0;) {
    if (lru_->Contains(rows[i])) lru_->MoveToFront(rows[i]);
  }
}

// Placement is fixed: what was read, will be read or moved changes only the order of eviction.
void StaticSplitPolicy::OnRead(RowIndex, PlaneIndex, uint32_t, double) {}
void StaticSplitPolicy::OnPrefetch(RowIndex row) { OnTouch(absl::MakeConstSpan(&row, 1)); }
void StaticSplitPolicy::OnResidency(RowIndex) {}

void StaticSplitPolicy::OnRemove(RowIndex row) {
  if (lru_->Contains(row)) lru_->Remove(row);
}

void StaticSplitPolicy::PlaceNew(TenantId, ModelId model, PlaneIndex plane,
                                 std::vector<PoolId>& pools) {
  const double position = (plane.value() + 0.5) / static_cast<double>(table_->plane_count(model));
  double end = 0;
  for (size_t pool = 0; pool < pool_count_; ++pool) {
    end += share_[pool];
    if (position < end || pool + 1 == pool_count_) {
      pools.push_back(PoolId(static_cast<uint8_t>(pool)));
      return;
    }
  }
}

RowIndex StaticSplitPolicy::Victim(TenantId tenant, PoolId pool) {
  RowIndex unblocks = kNoRow;
  RowIndex row = lru_->Back(tenant.value());
  ChunkLru::Descent descent;
  for (int scanned = 0; row != kNoRow && scanned < kStaticScanMax; ++scanned) {
    const RowIndex next = lru_->TowardsFront(row);
    if (!table_->Droppable(row)) {
      lru_->MoveNextToLeaf(row, descent);
    } else {
      const VictimHelp help = HelpOf(*table_, row, pool);
      if (help == VictimHelp::kFrees) return row;
      if (help == VictimHelp::kUnblocks && unblocks == kNoRow) unblocks = row;
    }
    row = next;
  }
  return unblocks;
}

void StaticSplitPolicy::Plan(absl::Time, size_t, std::vector<MoveIdea>&) {}

}  // namespace kvtier
