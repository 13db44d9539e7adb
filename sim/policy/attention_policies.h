// The policies that arXiv 2508.13231 compares, by block.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/policy/block_policy.h"

namespace kvtier::sim {

// What was read elsewhere comes to the fastest pool. To make room, all blocks of its plane that are
// there and were not read in this phase sink: as the paper's program does it, which is why it is
// weaker than least recently used.
class ReactivePolicy : public BlockPolicy {
 public:
  explicit ReactivePolicy(AccessFuture* future) : BlockPolicy(future, true) {}

  const char* name() const override { return "reactive"; }

 private:
  uint64_t BlockOrder(BlockId block) override;
  void Used(BlockId block) override;
  bool Empties() const override { return true; }
  bool MayReplace(BlockId victim, BlockId wanted) override;

  std::vector<uint32_t> used_;  // by number of block: the last phase that read it
};

// Knows what the next step reads: all planes of those chunks come to the fastest pool, for those
// that came there longest ago.
class PagePolicy : public BlockPolicy {
 public:
  explicit PagePolicy(AccessFuture* future) : BlockPolicy(future) {}

  const char* name() const override { return "page"; }

 private:
  uint64_t BlockOrder(BlockId block) override;
  void Decide() override;
  bool MayReplace(BlockId victim, BlockId wanted) override;

  std::vector<uint32_t> arrived_;  // by number of block, in order
  std::vector<bool> fast_;         // by number of block: it was in the fastest pool
  std::vector<uint32_t> soon_;     // by chunk: the last step that will read it, as far as known
  std::vector<uint64_t> reads_;
  uint32_t arrivals_ = 0;
  uint32_t decided_step_ = kNever;
};

// Knows the reads of the next kWindowSteps steps. Of what was read elsewhere and will be read again
// by then, the better kShare come to the fastest pool, by the sum over those reads of 1 / steps
// until then, for blocks that are not read by then. The paper starts from this window and
// share, and anneals the two in 40 simulations of the whole trace; nothing is annealed here, so
// that what the paper calls SA-guided may be faster than this.
class LookAheadPolicy : public BlockPolicy {
 public:
  static constexpr uint32_t kWindowSteps = 5;
  static constexpr double kShare = 0.5;

  explicit LookAheadPolicy(AccessFuture* future) : BlockPolicy(future) {}

  const char* name() const override { return "sa"; }

 private:
  uint64_t BlockOrder(BlockId block) override { return future()->Next(NumberOf(block)); }
  void Used(BlockId block) override { read_.push_back(block); }
  void Decide() override;
  bool MayReplace(BlockId victim, BlockId wanted) override;
  // The first phase behind the window.
  uint64_t WindowEnd() const;

  std::vector<BlockId> read_;  // since the last decision
};

}  // namespace kvtier::sim
