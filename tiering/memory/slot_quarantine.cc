#include "tiering/memory/slot_quarantine.h"

#include "tiering/base/check.h"

namespace kvtier {

SlotQuarantine::SlotQuarantine(size_t pool_count) : retired_bytes_(pool_count) {
  KVTIER_CHECK(pool_count <= CopyRef::kPoolsMax);
}

SectionId SlotQuarantine::Enter() {
  uint32_t place = first_unused_;
  if (place != kNone) {
    first_unused_ = sections_[place].next;
  } else {
    KVTIER_CHECK(sections_.size() < size_t{1} << kPlaceBits);
    place = static_cast<uint32_t>(sections_.size());
    sections_.emplace_back();
  }
  Section& section = sections_[place];
  section.open = true;
  section.epoch = epoch_;
  ++section.uses;
  section.previous = last_open_;
  section.next = kNone;
  (last_open_ == kNone ? first_open_ : sections_[last_open_].next) = place;
  last_open_ = place;
  ++open_sections_;
  return SectionId(section.uses << kPlaceBits | place);
}

bool SlotQuarantine::Exit(SectionId id) {
  const uint64_t place = id.value() & ((uint64_t{1} << kPlaceBits) - 1);
  if (place >= sections_.size()) return false;
  Section& section = sections_[place];
  if (!section.open || (section.uses << kPlaceBits | place) != id.value()) return false;
  (section.previous == kNone ? first_open_ : sections_[section.previous].next) = section.next;
  (section.next == kNone ? last_open_ : sections_[section.next].previous) = section.previous;
  section.open = false;
  section.next = first_unused_;
  first_unused_ = static_cast<uint32_t>(place);
  --open_sections_;
  return true;
}

void SlotQuarantine::Retire(CopyRef slot, Bytes slot_bytes) {
  KVTIER_CHECK(slot.valid() && slot.pool().value() < retired_bytes_.size());
  retired_.push_back({++epoch_, slot, slot_bytes});
  retired_bytes_[slot.pool().value()] += slot_bytes;
}

void SlotQuarantine::TakeFree(std::vector<CopyRef>& slots) {
  const uint64_t epoch = first_open_ == kNone ? epoch_ : sections_[first_open_].epoch;
  while (!retired_.empty() && retired_.front().epoch <= epoch) {
    const Retired& retired = retired_.front();
    slots.push_back(retired.slot);
    retired_bytes_[retired.slot.pool().value()] -= retired.bytes;
    retired_.pop_front();
  }
}

Bytes SlotQuarantine::retired(PoolId pool) const {
  KVTIER_CHECK(pool.value() < retired_bytes_.size());
  return retired_bytes_[pool.value()];
}

Bytes SlotQuarantine::metadata_bytes() const {
  return Bytes(static_cast<int64_t>(sizeof(*this) + sections_.capacity() * sizeof(Section) +
                                    retired_.size() * sizeof(Retired) +
                                    retired_bytes_.capacity() * sizeof(Bytes)));
}

}  // namespace kvtier
