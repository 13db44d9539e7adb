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

inline constexpr char kLookAheadName[] = "sa";

struct LookAhead {
  uint32_t window_steps = 5;
  uint32_t share_milli = 500;  // thousandths
};

// Knows the reads of the next `window_steps` steps. Of what was read elsewhere and will be read
// again by then, the better share comes to the fastest pool, by the sum over those reads of
// 1 / phases until then, for blocks that are not read by then. The paper counts tokens, which is
// the same where phases are steps; where they are layers, nearly, as a block is read in one phase
// of a step. look_ahead_search.h finds the two.
class LookAheadPolicy : public BlockPolicy {
 public:
  LookAheadPolicy(AccessFuture* future, const LookAhead& look_ahead)
      : BlockPolicy(future), look_ahead_(look_ahead) {}

  const char* name() const override { return kLookAheadName; }

 private:
  uint64_t BlockOrder(BlockId block) override { return future()->Next(NumberOf(block)); }
  void Used(BlockId block) override { read_.push_back(block); }
  void Decide() override;
  bool MayReplace(BlockId victim, BlockId wanted) override;
  // The first phase behind the window.
  uint64_t WindowEnd() const;

  LookAhead look_ahead_;
  std::vector<BlockId> read_;  // since the last decision
};

}  // namespace kvtier::sim
