// Static placement of arXiv 2508.13231: new blocks fill the fastest pool until it is full, then the
// next one, and nothing ever moves.
#pragma once

#include <vector>

#include "tiering/plan/ranked_policy.h"

namespace kvtier::sim {

// When the last pool is full, what was used longest ago there is dropped.
class StaticFillPolicy : public RankedPolicy {
 public:
  StaticFillPolicy() : RankedPolicy(1) {}

  const char* name() const override { return "static"; }
  void Plan(absl::Time, size_t, std::vector<MoveIdea>&) override {}

 private:
  size_t NewRank(RowIndex) override { return 0; }
  void Touched(RowIndex row) override { lists().MoveToFront(row); }
};

}  // namespace kvtier::sim
