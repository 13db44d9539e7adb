// A block table that a placement policy decides about, without an engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/block_content.h"
#include "tiering/block/block_catalog.h"
#include "tiering/plan/placement_policy.h"

namespace kvtier::test_support {

// A block table whose copies are numbers only, filled and moved as an engine would. Not
// thread-safe.
class PolicyTable : public PlacementView {
 public:
  static constexpr uint16_t kTenants = 2;

  PolicyTable(size_t pool_count, std::unique_ptr<PlacementPolicy> policy);

  const BlockCatalog& table() const override { return table_; }
  size_t pool_count() const override { return pool_count_; }
  size_t tenant_count() const override { return kTenants; }
  PoolRoom Room(TenantId tenant, PoolId pool) const override;
  bool MovesStopped(TenantId, PoolId) const override { return false; }
  Bytes SlotBytes(ModelId model, PlaneIndex plane) const override;
  absl::Time AccessTime(TenantId) const override { return absl::UnixEpoch(); }

  BlockCatalog& mutable_table() { return table_; }
  PlacementPolicy& policy() { return *policy_; }
  // One model a tenant, of the same number.
  static ModelId ModelOf(TenantId tenant) { return ModelId(tenant.value()); }

  // A visible chunk placed where the policy says; kNoRow when it names no pool.
  RowIndex Commit(TenantId tenant, RowIndex parent) {
    return Commit(tenant, parent, NumberedKey(next_key_++));
  }
  RowIndex Commit(TenantId tenant, RowIndex parent, const wire::ChunkKey& key);
  // Takes a droppable chunk out.
  void Drop(RowIndex row);
  // Performs an idea that names a copy that is there. The engine may refuse any: false for the
  // others.
  bool Apply(const MoveIdea& idea);
  bool InPool(RowIndex row, PoolId pool) const;
  std::vector<RowIndex> Rows(TenantId tenant) const;
  // The answers of PlaceNew, checked.
  std::vector<PoolId> Place(TenantId tenant, PlaneIndex plane);
  // Victim, checked.
  RowIndex Victim(TenantId tenant, PoolId pool);
  // Plan, checked; ideas are appended to what was there before.
  std::vector<MoveIdea> Plan(size_t ideas_max, absl::Time now = absl::FromUnixSeconds(1));

 private:
  CopyRef NewCopy(PoolId pool);

  const size_t pool_count_;
  BlockCatalog table_{1000};
  std::unique_ptr<PlacementPolicy> policy_;
  std::map<std::pair<TenantId, PoolId>, int64_t> used_;
  uint32_t next_copy_ = 0;
  uint64_t next_key_ = 1;
};

}  // namespace kvtier::test_support
