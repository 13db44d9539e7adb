// What a pool lets other processes have of its segments.
#include "absl/strings/str_cat.h"
#include "tiering/base/check.h"
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

absl::StatusOr<OwnedFd> HostPool::OpenForReading(SegmentIndex segment) const {
  const int memory = fd(segment);
  KVTIER_CHECK(SealedFromWriting(memory));
  return ReopenForReading(description_.name, memory);
}

absl::StatusOr<OwnedFd> HostPool::OpenForWriting(SegmentIndex segment) const {
  const int memory = fd(segment);
  // Whoever had it for writing before may have sealed it.
  if (SealedFromWriting(memory)) {
    return absl::FailedPreconditionError(
        absl::StrCat("segment ", description_.name, " is sealed from writing already"));
  }
  return Duplicate(description_.name, memory);
}

}  // namespace kvtier
