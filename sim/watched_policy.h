// A policy as it is, with a look at the table that it decides about.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "tiering/plan/placement_policy.h"

namespace kvtier::sim {

// Passes every call on.
class WatchedPolicy : public PlacementPolicy {
 public:
  explicit WatchedPolicy(std::unique_ptr<PlacementPolicy> policy) : policy_(std::move(policy)) {}

  // Null before Bind.
  const BlockCatalog* table() const { return table_; }

  const char* name() const override { return policy_->name(); }
  void Bind(const PlacementView* view, BlockCatalog* table) override {
    table_ = table;
    policy_->Bind(view, table);
  }
  void OnCommit(RowIndex row) override { policy_->OnCommit(row); }
  void OnTouch(absl::Span<const RowIndex> rows) override { policy_->OnTouch(rows); }
  void OnRead(RowIndex row, PlaneIndex plane, uint32_t steps, double mass) override {
    policy_->OnRead(row, plane, steps, mass);
  }
  void OnPrefetch(RowIndex row) override { policy_->OnPrefetch(row); }
  void OnResidency(RowIndex row) override { policy_->OnResidency(row); }
  void OnRemove(RowIndex row) override { policy_->OnRemove(row); }
  void PlaceNew(TenantId tenant, ModelId model, PlaneIndex plane,
                std::vector<PoolId>& pools) override {
    policy_->PlaceNew(tenant, model, plane, pools);
  }
  RowIndex Victim(TenantId tenant, PoolId pool) override { return policy_->Victim(tenant, pool); }
  void Plan(absl::Time now, size_t ideas_max, std::vector<MoveIdea>& ideas) override {
    policy_->Plan(now, ideas_max, ideas);
  }

 private:
  std::unique_ptr<PlacementPolicy> policy_;
  const BlockCatalog* table_ = nullptr;
};

}  // namespace kvtier::sim
