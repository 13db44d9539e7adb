// What a pool's own threads do: pre-fault, keep segments ready, give back what is too much.
#include <numa.h>

#include <algorithm>
#include <utility>

#include "tiering/host/host_pool.h"

namespace kvtier {
namespace {

// One step of pre-faulting: about a millisecond, so that a pool stops quickly and several threads
// share a segment.
constexpr Bytes kPopulateStep = MiB(4);

}  // namespace

void HostPool::Run() {
  // Clearing pages is fastest from the node they are on. Refused in some containers, and then done
  // without.
  if (placement_.binding != NodeBinding::kNone && numa_available() >= 0) {
    (void)numa_run_on_node(description_.numa_node);
  }
  MutexLock lock(mutex_);
  while (!stopping_) {
    // Unmapping first: AddSegment may wait for it.
    if (UnmapOne() || PopulateOne() || PrepareOne()) {
      changed_.notify_all();
    } else {
      changed_.wait(mutex_);
    }
  }
}

HostPool::Mapping* HostPool::NextToPopulate() const {
  // What is in use first: somebody may be about to touch it.
  for (const auto& mapping : active_) {
    if (mapping != nullptr && mapping->next < options_.segment_bytes) return mapping.get();
  }
  for (const auto& mapping : ready_) {
    if (mapping->next < options_.segment_bytes) return mapping.get();
  }
  return nullptr;
}

bool HostPool::PopulateOne() {
  Mapping* mapping = NextToPopulate();
  if (mapping == nullptr) return false;
  const Bytes offset = mapping->next;
  const Bytes step = std::min(kPopulateStep, options_.segment_bytes - offset);
  mapping->next += step;
  ++mapping->populating;  // keeps UnmapOne away from it
  ++busy_;
  mutex_.Unlock();
  const absl::Status status = Populate(*mapping, offset, step);
  if (status.ok()) options_.reserve->Settle(description_.numa_node, step);
  mutex_.Lock();
  --busy_;
  --mapping->populating;
  if (status.ok()) {
    mapping->populated += step;
    if (mapping->populated == options_.segment_bytes) prefault_ = absl::OkStatus();
  } else {
    // The rest would fail as well. A ready mapping goes at once, one in use once it is released;
    // what is missing of that one, whoever touches it may get yet.
    mapping->next = options_.segment_bytes;
    mapping->failed = true;
    growth_ = prefault_ = status;
  }
  return true;
}

std::unique_ptr<HostPool::Mapping> HostPool::TakeReady() {
  const bool part_will_do = prefault_.ok();
  const Bytes whole = options_.segment_bytes;
  const auto found = std::find_if(
      ready_.begin(), ready_.end(), [part_will_do, whole](const std::unique_ptr<Mapping>& mapping) {
        return !mapping->failed && (part_will_do || mapping->populated == whole);
      });
  if (found == ready_.end()) return nullptr;
  std::unique_ptr<Mapping> mapping = std::move(*found);
  ready_.erase(found);
  return mapping;
}

size_t HostPool::ReadyWanted() const {
  return prefault_.ok() ? options_.ready_segments : std::max(1u, options_.ready_segments);
}

std::unique_ptr<HostPool::Mapping> HostPool::TakeUnwanted() {
  const auto take = [](std::deque<std::unique_ptr<Mapping>>& mappings, const auto& may_go) {
    const auto found = std::find_if(mappings.rbegin(), mappings.rend(), may_go);
    if (found == mappings.rend()) return std::unique_ptr<Mapping>();
    std::unique_ptr<Mapping> mapping = std::move(*found);
    mappings.erase(std::next(found).base());
    return mapping;
  };
  std::unique_ptr<Mapping> mapping =
      take(released_, [](const auto& released) { return released->populating == 0; });
  if (mapping != nullptr) return mapping;
  const bool too_many = ready_.size() > ReadyWanted();
  return take(ready_, [too_many](const auto& ready) {
    return ready->populating == 0 && (too_many || ready->failed);
  });
}

bool HostPool::UnmapOne() {
  std::unique_ptr<Mapping> mapping = TakeUnwanted();
  if (mapping == nullptr) return false;
  ++busy_;
  mutex_.Unlock();
  DeleteMapping(std::move(mapping));
  mutex_.Lock();
  --busy_;
  --mapped_;
  return true;
}

bool HostPool::PrepareOne() {
  if (ready_.size() >= ReadyWanted() || mapped_ == segments_max_ || !growth_.ok()) return false;
  ++mapped_;
  ++busy_;
  mutex_.Unlock();
  absl::StatusOr<std::unique_ptr<Mapping>> made = NewMapping();
  mutex_.Lock();
  --busy_;
  if (made.ok()) {
    ready_.push_back(*std::move(made));
  } else {
    --mapped_;
    growth_ = made.status();
  }
  return true;
}

bool HostPool::Idle() const {
  const bool full = ready_.size() >= ReadyWanted() || mapped_ == segments_max_ || !growth_.ok();
  const bool any_failed = std::any_of(ready_.begin(), ready_.end(),
                                      [](const auto& mapping) { return mapping->failed; });
  return busy_ == 0 && full && !any_failed && released_.empty() && ready_.size() <= ReadyWanted() &&
         NextToPopulate() == nullptr;
}

}  // namespace kvtier
