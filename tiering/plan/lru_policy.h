// Least recently used, by chunk, over all pools.
#pragma once

#include <memory>

#include "tiering/plan/ranked_policy.h"

namespace kvtier {

// One rank: what was committed or read longest ago goes first.
class LruPolicy : public RankedPolicy {
 public:
  static std::unique_ptr<PlacementPolicy> Create() { return std::make_unique<LruPolicy>(); }
  LruPolicy() : RankedPolicy(1) {}

  const char* name() const override { return "lru"; }

 private:
  size_t NewRank(RowIndex) override { return 0; }
  void Touched(RowIndex row) override { lists().MoveToFront(row); }
};

}  // namespace kvtier
