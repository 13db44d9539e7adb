// Placement policies for tests: one that moves whatever a seed says, one that moves what a test
// says.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tiering/base/rng.h"
#include "tiering/plan/lru_policy.h"

namespace kvtier::test_support {

// Victims as LruPolicy; new blocks and moves go anywhere, second copies included. Many of its ideas
// are ones that an engine has to refuse.
class ShufflePolicy : public LruPolicy {
 public:
  explicit ShufflePolicy(uint64_t seed) : rng_(seed) {}

  const char* name() const override { return "shuffle"; }
  void Bind(const PlacementView* view, BlockCatalog* table) override {
    view_ = view;
    table_ = table;
    LruPolicy::Bind(view, table);
  }
  void PlaceNew(TenantId, ModelId, PlaneIndex plane, std::vector<PoolId>& pools) override {
    const size_t count = view_->pool_count();
    for (size_t i = 0; i < count; ++i) {
      pools.push_back(PoolId(static_cast<uint8_t>((i + plane.value()) % count)));
    }
  }
  void Plan(absl::Time, size_t ideas_max, std::vector<MoveIdea>& ideas) override {
    const RowIndex rows = table_->row_end();
    for (size_t i = 0; i < ideas_max && rows > 0; ++i) {
      const auto row = static_cast<RowIndex>(rng_.Below(rows + 1));
      const auto plane = static_cast<uint16_t>(rng_.Below(6));
      ideas.push_back({row, PlaneIndex(plane), AnyPool(), AnyPool(), rng_.OneIn(2)});
    }
  }

 private:
  PoolId AnyPool() { return PoolId(static_cast<uint8_t>(rng_.Below(view_->pool_count()))); }

  Rng rng_;
  const PlacementView* view_ = nullptr;
  BlockCatalog* table_ = nullptr;
};

// Plans what was pushed into `ideas` since the last Plan, and nothing else; all else as LruPolicy.
// Remembers when accesses were, as policies are told it.
class ScriptedPolicy : public LruPolicy {
 public:
  const char* name() const override { return "scripted"; }
  void Bind(const PlacementView* view, BlockCatalog* table) override {
    view_ = view;
    table_ = table;
    LruPolicy::Bind(view, table);
  }
  void OnCommit(RowIndex row) override {
    Note("commit", row);
    LruPolicy::OnCommit(row);
  }
  void OnTouch(absl::Span<const RowIndex> rows) override {
    if (!rows.empty()) Note("touch", rows[0]);
    LruPolicy::OnTouch(rows);
  }
  void OnRead(RowIndex row, PlaneIndex plane, uint32_t steps, double mass) override {
    Note("read", row);
    LruPolicy::OnRead(row, plane, steps, mass);
  }
  void Plan(absl::Time, size_t, std::vector<MoveIdea>& wanted) override {
    wanted.insert(wanted.end(), ideas_.begin(), ideas_.end());
    ideas_.clear();
  }
  // The block of a chunk goes from one pool to another at the next tick.
  void Move(ModelId model, const wire::ChunkKey& key, PlaneIndex plane, PoolId from, PoolId to,
            bool keep_source = false) {
    ideas_.push_back({table_->Find(model, key), plane, from, to, keep_source});
  }
  struct Access {
    std::string what;  // commit, touch or read
    absl::Time at;
  };
  // Since the last call.
  std::vector<Access> TakeAccesses() { return std::exchange(accesses_, {}); }

 private:
  void Note(const char* what, RowIndex row) {
    accesses_.push_back({what, view_->AccessTime(table_->tenant(row))});
  }

  const PlacementView* view_ = nullptr;
  BlockCatalog* table_ = nullptr;
  std::vector<MoveIdea> ideas_;
  std::vector<Access> accesses_;
};

}  // namespace kvtier::test_support
