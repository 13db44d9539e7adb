// Handles that end with the daemon's epoch.
#pragma once

#include <cstdint>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

namespace kvtier {

// Handles are numbers of the client's own that are never given twice, so one from before a daemon's
// restart cannot name something of the new daemon. Thread-safe; records are copied in and out.
template <typename Record>
class HandleTable {
 public:
  // `noun` names a record in messages and must be a literal.
  HandleTable(const char* noun, size_t handles_max) : noun_(noun), handles_max_(handles_max) {}

  // OK while one more fits, else RESOURCE_EXHAUSTED. Several threads that pass at once may exceed
  // the limit by their number.
  absl::Status CheckRoom() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (records_.size() < handles_max_) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat("this client holds ", records_.size(), " ",
                                                     noun_, "s, the limit is ", handles_max_));
  }

  uint64_t Add(Record record) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const uint64_t handle = next_++;
    records_.emplace(handle, std::move(record));
    return handle;
  }

  // NOT_FOUND: never given, ended, or of a daemon that is gone.
  absl::StatusOr<Record> Find(uint64_t handle) const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const auto found = records_.find(handle);
    if (found != records_.end()) return found->second;
    return absl::NotFoundError(
        absl::StrCat("no ", noun_, " ", handle, ": it ended, or it is of an earlier daemon epoch"));
  }

  // Calls `change(Record&)` if the handle is there.
  template <typename Change>
  void Update(uint64_t handle, Change&& change) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (const auto found = records_.find(handle); found != records_.end()) change(found->second);
  }

  void Erase(uint64_t handle) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    records_.erase(handle);
  }

  // Erases what `predicate(const Record&)` is true of.
  template <typename Predicate>
  void EraseIf(Predicate&& predicate) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    absl::erase_if(records_, [&](const auto& entry) { return predicate(entry.second); });
  }

 private:
  const char* const noun_;
  const size_t handles_max_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<uint64_t, Record> records_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace kvtier
