#include "sim/policy/attention_policies.h"

#include <algorithm>
#include <utility>

namespace kvtier::sim {
namespace {

template <typename Value>
Value& At(std::vector<Value>& values, uint64_t index) {
  if (values.size() <= index) values.resize(index + 1);
  return values[index];
}

}  // namespace

uint64_t ReactivePolicy::BlockOrder(BlockId block) { return kNever - At(used_, NumberOf(block)); }

void ReactivePolicy::Used(BlockId block) {
  At(used_, NumberOf(block)) = future()->now();
  if (PoolOf(block) > 0 && PoolOf(block) < pool_count()) Want(block);
}

bool ReactivePolicy::MayReplace(BlockId victim, BlockId wanted) {
  return At(used_, NumberOf(victim)) < At(used_, NumberOf(wanted));
}

uint64_t PagePolicy::BlockOrder(BlockId block) {
  const uint64_t number = NumberOf(block);
  if (fast_.size() <= number) fast_.resize(number + 1);
  const bool fast = PoolOf(block) == 0;
  if (fast && !fast_[number]) At(arrived_, number) = ++arrivals_;
  fast_[number] = fast;
  return kNever - At(arrived_, number);
}

void PagePolicy::Decide() {
  const uint32_t phases = future()->phases_per_step();
  const uint32_t next = future()->now() / phases + 1;
  if (next == decided_step_) return;
  decided_step_ = next;
  wanted().clear();
  reads_.clear();
  for (uint32_t phase = 0; phase < phases; ++phase) future()->Reads(next * phases + phase, reads_);
  for (const uint64_t number : reads_) {
    const uint64_t chunk = number / planes();
    const RowIndex row = RowOf(chunk);
    if (row == kNoRow || std::exchange(At(soon_, chunk), next) == next) continue;
    for (uint16_t plane = 0; plane < planes(); ++plane) {
      if (PoolOf({row, plane}) > 0) Want({row, plane});
    }
  }
}

bool PagePolicy::MayReplace(BlockId victim, BlockId) {
  return At(soon_, table().key(victim.row).high()) != decided_step_;
}

uint64_t LookAheadPolicy::WindowEnd() const {
  return uint64_t{future()->now()} +
         uint64_t{look_ahead_.window_steps} * future()->phases_per_step() + 1;
}

void LookAheadPolicy::Decide() {
  if (read_.empty()) return;
  const uint64_t end = WindowEnd();
  std::vector<std::pair<double, size_t>> scores;
  for (size_t i = 0; i < read_.size(); ++i) {
    const BlockId block = read_[i];
    if (RowOf(table().key(block.row).high()) != block.row || PoolOf(block) == 0) continue;
    double score = 0;
    for (const uint32_t phase : future()->Rest(NumberOf(block))) {
      if (phase >= end) break;
      score += 1.0 / static_cast<double>(phase - future()->now());
    }
    if (score > 0) scores.emplace_back(-score, i);
  }
  std::sort(scores.begin(), scores.end());
  scores.resize((scores.size() * look_ahead_.share_milli + 999) / 1000);
  wanted().clear();
  for (const auto& [score, i] : scores) Want(read_[i]);
  read_.clear();
}

bool LookAheadPolicy::MayReplace(BlockId victim, BlockId) {
  return future()->Next(NumberOf(victim)) >= WindowEnd();
}

}  // namespace kvtier::sim
