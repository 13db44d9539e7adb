// What the slot allocator can say of itself: metrics, and checks of its counts against its bitmaps.
#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "tiering/base/check.h"
#include "tiering/memory/slot_allocator.h"
#include "tiering/memory/slot_segments.h"

namespace kvtier {

double SlotAllocator::mean_run_length() const {
  if (runs_handed_out_ == 0) return 0;
  return static_cast<double>(slots_handed_out_) / static_cast<double>(runs_handed_out_);
}

Bytes SlotAllocator::metadata_bytes() const {
  size_t bytes = sizeof(*this) + table_.capacity() * sizeof(Segment) +
                 tenants_.capacity() * sizeof(Tenant) +
                 classes_.capacity() * (sizeof(*classes_.begin()) + 1);
  bytes += incarnations_.capacity() * sizeof(uint32_t);
  for (const Tenant& tenant : tenants_) bytes += tenant.empty.capacity() * sizeof(SegmentIndex);
  for (const auto& [id, writer] : writers_) {
    bytes += sizeof(id) + sizeof(writer);
    for (const auto& [slot_bytes, empty] : writer.empty)
      bytes += sizeof(slot_bytes) + sizeof(std::vector<SegmentIndex>) +
               empty.capacity() * sizeof(SegmentIndex);
  }
  for (const Segment& segment : table_) {
    bytes += segment.free.bytes() + segment.runs.capacity() * sizeof(uint16_t) +
             segment.owners.capacity() * sizeof(RowIndex);
  }
  for (const auto& [key, size_class] : classes_) {
    bytes += sizeof(SizeClass) +
             (size_class->members.capacity() + size_class->vacant.capacity()) * sizeof(uint32_t);
    for (const IndexSet& set : size_class->with_run) bytes += set.bytes();
  }
  return Bytes(static_cast<int64_t>(bytes));
}

// Counts the segment's runs again.
void SlotAllocator::CheckSegment(SegmentIndex index) const {
  const Segment& segment = table_[index.value()];
  segment.free.CheckInvariants();
  std::vector<uint16_t> runs(segment.runs.size());
  uint32_t free = 0, retired = 0;
  for (uint32_t slot = 0; slot < segment.slot_count;) {
    const uint32_t count = segment.free.CountFrom(slot);
    if (count > 0) ++runs[RunClassOf(count)];
    KVTIER_CHECK(count <= segment.longest_max);
    for (uint32_t i = slot; i < slot + count; ++i) KVTIER_CHECK(segment.owners[i] == kNoRow);
    free += count;
    slot += count + 1;
  }
  for (const RowIndex owner : segment.owners) retired += owner == kRetiredSlot ? 1 : 0;
  KVTIER_CHECK(segment.retired == retired);
  KVTIER_CHECK(segment.used > 0 && segment.used + free == segment.slot_count);
  KVTIER_CHECK(runs == segment.runs);
  for (uint32_t i = 0; i < kRunClasses; ++i) {
    const bool has = i < runs.size() && runs[i] > 0;
    KVTIER_CHECK(segment.size_class->with_run[i].Contains(segment.ordinal) == has);
  }
  KVTIER_CHECK(segment.size_class->members[segment.ordinal] == index.value());
}

void SlotAllocator::CheckInvariants() const {
  std::vector<Tenant> tenants(tenants_.size());
  absl::flat_hash_map<ClassKey, uint64_t> free_slots;
  std::map<ShmClientId, uint64_t> inboxes;
  uint64_t taken = 0;
  Bytes used;
  for (uint32_t i = 0; i < table_.size(); ++i) {
    const Segment& segment = table_[i];
    taken += segment.taken ? 1 : 0;
    if (segment.size_class == nullptr) continue;
    CheckSegment(SegmentIndex(i));
    const ClassKey key = segment.size_class->key;
    Tenant& tenant = tenants[key.tenant.value()];
    ++tenant.segments;
    tenant.draining += segment.draining() ? 1 : 0;
    tenant.retired += Bytes(segment.slot_bytes) * segment.retired;
    tenant.used += Bytes(segment.slot_bytes) * segment.used;
    used += Bytes(segment.slot_bytes) * segment.used;
    free_slots[key] += segment.slot_count - segment.used;
    KVTIER_CHECK(key.slot_bytes == segment.slot_bytes);
    KVTIER_CHECK(incarnations_[i] > 0 && incarnations_[i] <= kIncarnationMax);
    if (key.writer == ShmClientId()) {
      KVTIER_CHECK(!segment.granted && !segment.sealed);
    } else {
      KVTIER_CHECK(writers_.at(key.writer).tenant == key.tenant);
      KVTIER_CHECK(segment.granted || !segment.sealed);
      ++inboxes[key.writer];
      ++tenant.inboxes;
      tenant.free_in_inboxes +=
          Bytes(segment.slot_bytes) * (segment.slot_count - segment.used + segment.retired);
    }
  }
  uint64_t held = 0, empty = 0;
  for (size_t i = 0; i < tenants.size(); ++i) {
    KVTIER_CHECK(tenants[i].segments == tenants_[i].segments &&
                 tenants[i].used == tenants_[i].used && tenants[i].inboxes == tenants_[i].inboxes &&
                 tenants[i].free_in_inboxes == tenants_[i].free_in_inboxes);
    KVTIER_CHECK(tenants[i].draining == tenants_[i].draining &&
                 tenants[i].retired == tenants_[i].retired);
    KVTIER_CHECK(tenants[i].segments <= tenants_[i].segments_max);
    held += tenants[i].segments;
    empty += tenants_[i].empty.size();
    for (const SegmentIndex index : tenants_[i].empty) {
      const Segment& segment = table_[index.value()];
      KVTIER_CHECK(segment.taken && segment.size_class == nullptr && segment.used == 0);
      KVTIER_CHECK(!segment.granted && !segment.sealed);
    }
  }
  for (const auto& [id, writer] : writers_) {
    KVTIER_CHECK(writer.segments == inboxes[id]);
    uint64_t waiting = 0;
    for (const auto& [slot_bytes, indices] : writer.empty) {
      waiting += indices.size();
      for (const SegmentIndex index : indices) {
        const Segment& segment = table_[index.value()];
        KVTIER_CHECK(segment.taken && segment.size_class == nullptr && segment.used == 0);
        KVTIER_CHECK(segment.slot_bytes == slot_bytes);
      }
    }
    KVTIER_CHECK(!writer.ended || (waiting == 0 && writer.segments > 0));
    empty += waiting;
  }
  KVTIER_CHECK(inboxes.size() <= writers_.size());
  KVTIER_CHECK(used == used_ && taken == segment_count_);
  KVTIER_CHECK(empty == empty_count_ && held + empty == segment_count_);
  KVTIER_CHECK(free_slots.size() == classes_.size());
  for (const auto& [key, size_class] : classes_) {
    KVTIER_CHECK(free_slots[key] == size_class->free_slots);
    for (uint32_t i = 0; i < kRunClasses; ++i) {
      KVTIER_CHECK(size_class->with_run[i].empty() ==
                   ((size_class->nonempty[i / 64] >> i % 64 & 1) == 0));
    }
  }
}

}  // namespace kvtier
