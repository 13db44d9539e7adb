#include "client/reservation_record.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/wire/checksum.h"

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

std::byte* ReservationRecord::SlotOf(uint32_t chunk, uint32_t plane) const {
  const auto found = std::find(terms_.planes.begin(), terms_.planes.end(), plane);
  const auto index = static_cast<size_t>(found - terms_.planes.begin());
  return terms_.slots[size_t{chunk} * terms_.planes.size() + index];
}

absl::StatusOr<std::byte*> ReservationRecord::Slot(uint32_t chunk, uint32_t plane) const {
  absl::MutexLock lock(&mutex_);
  const auto found = blocks_.find({chunk, plane});
  if (found != blocks_.end() && found->second.stage == Stage::kCommitted) {
    return absl::FailedPreconditionError(
        absl::StrCat("chunk ", chunk, " plane ", plane, " is committed already"));
  }
  return SlotOf(chunk, plane);
}

absl::StatusOr<std::byte*> ReservationRecord::HandOut(uint32_t chunk, uint32_t plane) {
  auto slot = Slot(chunk, plane);
  if (!slot.ok()) return slot;
  absl::MutexLock lock(&mutex_);
  blocks_[{chunk, plane}] = {Stage::kHandedOut, 0};
  return slot;
}

void ReservationRecord::SetChecksum(uint32_t chunk, uint32_t plane, uint64_t checksum) {
  absl::MutexLock lock(&mutex_);
  blocks_[{chunk, plane}] = {Stage::kPut, checksum};
}

absl::StatusOr<uint64_t> ReservationRecord::Checksum(uint32_t chunk, uint32_t plane) const {
  {
    absl::MutexLock lock(&mutex_);
    const auto found = blocks_.find({chunk, plane});
    if (found == blocks_.end() || found->second.stage == Stage::kCommitted) {
      return absl::FailedPreconditionError(
          absl::StrCat("chunk ", chunk, " plane ", plane,
                       " was not put through this client, or is committed already"));
    }
    if (found->second.stage == Stage::kPut) return found->second.checksum;
  }
  const uint64_t bytes = terms_.model->geometry()->planes[plane].bytes_per_chunk;
  return wire::BlockChecksum({SlotOf(chunk, plane), bytes});
}

bool ReservationRecord::NoteCommitted(uint32_t chunk, const std::vector<uint32_t>& planes) {
  absl::MutexLock lock(&mutex_);
  for (const uint32_t plane : planes) {
    State& state = blocks_[{chunk, plane}];
    if (state.stage == Stage::kCommitted) continue;
    state.stage = Stage::kCommitted;
    --blocks_left_;
  }
  return blocks_left_ == 0;
}

}  // namespace kvtier
