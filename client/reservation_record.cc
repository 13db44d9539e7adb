#include "client/reservation_record.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace kvtier {

ReservationRecord::ReservationRecord(Terms terms)
    : terms_(std::move(terms)), blocks_left_(uint64_t{terms_.chunk_count} * terms_.planes.size()) {}

absl::Status ReservationRecord::CheckBlock(uint32_t chunk, uint32_t plane) const {
  if (chunk >= terms_.chunk_count) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunk ", chunk, ": the reservation has ", terms_.chunk_count, " chunks"));
  }
  if (std::find(terms_.planes.begin(), terms_.planes.end(), plane) == terms_.planes.end()) {
    return absl::InvalidArgumentError(absl::StrCat("chunk ", chunk, " plane ", plane,
                                                   ": the reservation does not have that plane"));
  }
  return absl::OkStatus();
}

void ReservationRecord::SetChecksum(uint32_t chunk, uint32_t plane, uint64_t checksum) {
  absl::MutexLock lock(&mutex_);
  checksums_[{chunk, plane}] = checksum;
}

absl::StatusOr<uint64_t> ReservationRecord::Checksum(uint32_t chunk, uint32_t plane) const {
  absl::MutexLock lock(&mutex_);
  const auto found = checksums_.find({chunk, plane});
  if (found != checksums_.end()) return found->second;
  return absl::FailedPreconditionError(
      absl::StrCat("chunk ", chunk, " plane ", plane,
                   " was not put through this client, or is committed already"));
}

bool ReservationRecord::NoteCommitted(uint32_t chunk, const std::vector<uint32_t>& planes) {
  absl::MutexLock lock(&mutex_);
  for (const uint32_t plane : planes) {
    if (checksums_.erase({chunk, plane}) > 0) --blocks_left_;
  }
  return blocks_left_ == 0;
}

}  // namespace kvtier
