// What a pool lets other processes have of its segments.
#include "absl/strings/str_cat.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/host/host_pool.h"
#include "tiering/host/memfd_access.h"

namespace kvtier {

int HostPool::fd(SegmentIndex segment) const {
  MutexLock lock(mutex_);
  KVTIER_CHECK(segment.value() < segments_max_ && active_[segment.value()] != nullptr);
  return active_[segment.value()]->segment->fd();
}

absl::Status HostPool::Seal(SegmentIndex segment) {
  return SealFromWriting(description_.name, fd(segment));
}

bool HostPool::sealed(SegmentIndex segment) const { return SealedFromWriting(fd(segment)); }

absl::StatusOr<int> HostPool::OpenToOthers(SegmentIndex segment) {
  MutexLock lock(mutex_);
  KVTIER_CHECK(segment.value() < segments_max_ && active_[segment.value()] != nullptr);
  Mapping& mapping = *active_[segment.value()];
  const int memory = mapping.segment->fd();
  if (holders_.has_value() && !mapping.watch.has_value()) {
    KVTIER_ASSIGN_OR_RETURN(mapping.watch, holders_->Add(description_.name, memory));
  }
  return memory;
}

absl::StatusOr<OwnedFd> HostPool::OpenForReading(SegmentIndex segment) {
  KVTIER_ASSIGN_OR_RETURN(const int memory, OpenToOthers(segment));
  KVTIER_CHECK(SealedFromWriting(memory));
  return ReopenForReading(description_.name, memory);
}

absl::StatusOr<OwnedFd> HostPool::OpenForWriting(SegmentIndex segment) {
  KVTIER_ASSIGN_OR_RETURN(const int memory, OpenToOthers(segment));
  // Whoever had it for writing before may have sealed it.
  if (SealedFromWriting(memory)) {
    return absl::FailedPreconditionError(
        absl::StrCat("segment ", description_.name, " is sealed from writing already"));
  }
  return Duplicate(description_.name, memory);
}

uint64_t HostPool::kept(TenantId owner) {
  MutexLock lock(mutex_);
  if (kept_.empty()) return 0;
  for (const int ended : holders_->TakeEnded()) {
    const auto kept = kept_.find(ended);
    KVTIER_CHECK(kept != kept_.end());  // the pool itself has what it has not released
    --kept_counts_[kept->second];
    kept_.erase(kept);
    growth_ = absl::OkStatus();  // the machine has memory again
    changed_.notify_all();
  }
  const auto count = kept_counts_.find(owner);
  return count == kept_counts_.end() ? 0 : count->second;
}

}  // namespace kvtier
