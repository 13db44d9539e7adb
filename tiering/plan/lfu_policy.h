// Least frequently used, by chunk, over all pools.
#pragma once

#include <algorithm>
#include <memory>

#include "tiering/plan/ranked_policy.h"

namespace kvtier {

// A chunk's rank is how often it was read since it was committed, counted up to kCountMax; among
// equals what was read longest ago goes first. Nothing is remembered of what was dropped.
class LfuPolicy : public RankedPolicy {
 public:
  static constexpr size_t kCountMax = 15;

  static std::unique_ptr<PlacementPolicy> Create() { return std::make_unique<LfuPolicy>(); }
  LfuPolicy() : RankedPolicy(kCountMax + 1) {}

  const char* name() const override { return "lfu"; }

 private:
  size_t NewRank(RowIndex) override { return 0; }
  void Touched(RowIndex row) override { MoveToRank(row, std::min(RankOf(row) + 1, kCountMax)); }
};

}  // namespace kvtier
