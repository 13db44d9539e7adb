#include "tests/support/policy_table.h"

#include <gtest/gtest.h>

#include <set>

#include "tiering/base/check.h"

namespace kvtier::test_support {
namespace {

constexpr int64_t kPlaneBytes[] = {512, 512, 256};
constexpr int64_t kRoomBytes = 12 * (512 + 512 + 256);

}  // namespace

PolicyTable::PolicyTable(size_t pool_count, std::unique_ptr<PlacementPolicy> policy)
    : pool_count_(pool_count), policy_(std::move(policy)) {
  for (uint16_t tenant = 0; tenant < kTenants; ++tenant) {
    ModelLayout layout;
    layout.tenant = TenantId(tenant);
    layout.chunk_tokens = 16;
    for (const int64_t bytes : kPlaneBytes) {
      layout.plane_bytes.push_back(Bytes(bytes));
      layout.required.push_back(true);
    }
    layout.required_count = 3;
    table_.AddModel(std::move(layout));
  }
  policy_->Bind(this, &table_);
}

PoolRoom PolicyTable::Room(TenantId tenant, PoolId pool) const {
  const auto used = used_.find({tenant, pool});
  return {Bytes(used == used_.end() ? 0 : used->second), Bytes(kRoomBytes)};
}

Bytes PolicyTable::SlotBytes(ModelId, PlaneIndex plane) const {
  return Bytes(kPlaneBytes[plane.value()]);
}

CopyRef PolicyTable::NewCopy(PoolId pool) {
  const uint32_t number = next_copy_++;
  return CopyRef(pool, SegmentIndex(number / 16'384), number % 16'384);
}

std::vector<PoolId> PolicyTable::Place(TenantId tenant, PlaneIndex plane) {
  std::vector<PoolId> pools;
  policy_->PlaceNew(tenant, ModelOf(tenant), plane, pools);
  EXPECT_FALSE(pools.empty()) << "a new block has to go somewhere";
  std::set<PoolId> distinct;
  for (const PoolId pool : pools) {
    EXPECT_LT(pool.value(), pool_count_);
    EXPECT_TRUE(distinct.insert(pool).second) << "pool " << int{pool.value()} << " is named twice";
  }
  return pools;
}

RowIndex PolicyTable::Commit(TenantId tenant, RowIndex parent, const wire::ChunkKey& key) {
  const RowIndex row = table_.Create(ModelOf(tenant), key, parent, 16);
  KVTIER_CHECK(row != kNoRow);
  for (uint16_t i = 0; i < 3; ++i) {
    const std::vector<PoolId> pools = Place(tenant, PlaneIndex(i));
    if (pools.empty()) return kNoRow;
    PoolId pool = pools.back();
    for (const PoolId candidate : pools) {
      if (Room(tenant, candidate).used.count() + kPlaneBytes[i] > kRoomBytes) continue;
      pool = candidate;
      break;
    }
    table_.SetFirst(row, PlaneIndex(i), NewCopy(pool), 1);
    used_[{tenant, pool}] += kPlaneBytes[i];
  }
  table_.MarkVisible(row);
  policy_->OnCommit(row);
  return row;
}

void PolicyTable::Drop(RowIndex row) {
  policy_->OnRemove(row);
  for (uint16_t i = 0; i < 3; ++i) {
    while (table_.block(row, PlaneIndex(i)).best.valid()) {
      const CopyRef copy = table_.block(row, PlaneIndex(i)).best;
      used_[{table_.tenant(row), copy.pool()}] -= kPlaneBytes[i];
      table_.RemoveCopy(row, PlaneIndex(i), copy);
    }
  }
  table_.Remove(row);
}

bool PolicyTable::Apply(const MoveIdea& idea) {
  const Block& block = table_.block(idea.row, idea.plane);
  if (!block.best.valid() || block.best.pool() != idea.from || block.second.valid()) return false;
  const TenantId tenant = table_.tenant(idea.row);
  const int64_t bytes = kPlaneBytes[idea.plane.value()];
  const CopyRef source = block.best;
  table_.AddCopy(idea.row, idea.plane, NewCopy(idea.to));
  used_[{tenant, idea.to}] += bytes;
  if (!idea.keep_source) {
    table_.RemoveCopy(idea.row, idea.plane, source);
    used_[{tenant, idea.from}] -= bytes;
  }
  policy_->OnResidency(idea.row);
  return true;
}

bool PolicyTable::InPool(RowIndex row, PoolId pool) const {
  for (uint16_t i = 0; i < 3; ++i) {
    const Block& block = table_.block(row, PlaneIndex(i));
    if (block.best.valid() && block.best.pool() == pool) return true;
    if (block.second.valid() && block.second.pool() == pool) return true;
  }
  return false;
}

std::vector<RowIndex> PolicyTable::Rows(TenantId tenant) const {
  std::vector<RowIndex> rows;
  for (RowIndex row = 0; row < table_.row_end(); ++row) {
    if (table_.live(row) && !table_.hidden(row) && table_.tenant(row) == tenant)
      rows.push_back(row);
  }
  return rows;
}

RowIndex PolicyTable::Victim(TenantId tenant, PoolId pool) {
  const RowIndex victim = policy_->Victim(tenant, pool);
  if (victim == kNoRow) return kNoRow;
  EXPECT_TRUE(table_.live(victim));
  EXPECT_FALSE(table_.hidden(victim)) << "what was forgotten is no longer the policy's";
  EXPECT_EQ(table_.tenant(victim), tenant) << "another tenant's chunk";
  EXPECT_TRUE(table_.Droppable(victim));
  bool helps = InPool(victim, pool);
  for (RowIndex above = table_.parent(victim); above != kNoRow; above = table_.parent(above))
    helps |= InPool(above, pool);
  EXPECT_TRUE(helps) << "dropping it brings no room nearer";
  return victim;
}

std::vector<MoveIdea> PolicyTable::Plan(size_t ideas_max, absl::Time now) {
  std::vector<MoveIdea> ideas(1);
  policy_->Plan(now, ideas_max, ideas);
  EXPECT_GE(ideas.size(), 1u) << "ideas are appended";
  EXPECT_EQ(ideas[0].row, kNoRow) << "ideas are appended";
  EXPECT_LE(ideas.size() - 1, ideas_max);
  ideas.erase(ideas.begin());
  for (const MoveIdea& idea : ideas) {
    EXPECT_TRUE(table_.live(idea.row) && !table_.hidden(idea.row));
    EXPECT_LT(idea.plane.value(), 3);
    EXPECT_LT(idea.from.value(), pool_count_);
    EXPECT_LT(idea.to.value(), pool_count_);
    EXPECT_NE(idea.from, idea.to);
    EXPECT_TRUE(InPool(idea.row, idea.from)) << "there is no copy to move";
  }
  return ideas;
}

}  // namespace kvtier::test_support
