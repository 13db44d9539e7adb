// Policies that know when each block will be read again: Belady's MIN, and by frequency.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/policy/block_policy.h"

namespace kvtier::sim {

// What is read again last goes first; a block that was read comes to the fastest pool for one that
// is read again later than it. In one pool this is MIN, by chunk, where everything that is computed
// is stored: a chunk with children is read again no later than they are.
class MinPolicy : public BlockPolicy {
 public:
  explicit MinPolicy(AccessFuture* future) : BlockPolicy(future) {}

  const char* name() const override { return "min"; }

 private:
  uint64_t BlockOrder(BlockId block) override { return future()->Next(NumberOf(block)); }
  void Used(BlockId block) override;
  void Decide() override;
  bool MayReplace(BlockId victim, BlockId wanted) override {
    return BlockOrder(victim) > BlockOrder(wanted);
  }
};

// The same by how often a block will still be read: what is read least goes first.
class FrequencyPolicy : public BlockPolicy {
 public:
  explicit FrequencyPolicy(AccessFuture* future) : BlockPolicy(future) {}

  const char* name() const override { return "frequency"; }

 private:
  uint64_t BlockOrder(BlockId block) override {
    return kNever - future()->Rest(NumberOf(block)).size();
  }
  void Used(BlockId block) override;
  void Decide() override;
  bool MayReplace(BlockId victim, BlockId wanted) override {
    return BlockOrder(victim) > BlockOrder(wanted);
  }
};

}  // namespace kvtier::sim
