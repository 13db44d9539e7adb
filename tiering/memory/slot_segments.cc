// How the slot allocator comes by segments, cuts them into slots, and lets them go.
#include "tiering/memory/slot_segments.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "tiering/base/check.h"
#include "tiering/memory/slot_allocator.h"

namespace kvtier {

// The class with segments enough for `missing_slots` more, or null and nothing handed out.
SlotAllocator::SizeClass* SlotAllocator::Grow(ClassKey key, uint64_t missing_slots) {
  Tenant& tenant = tenants_[key.tenant.value()];
  const uint64_t slots_each = static_cast<uint64_t>(segment_bytes_.count() / key.slot_bytes);
  const uint64_t needed = missing_slots / slots_each + (missing_slots % slots_each != 0 ? 1 : 0);
  if (tenant.segments > tenant.segments_max || needed > tenant.segments_max - tenant.segments)
    return nullptr;
  if (key.writer != ShmClientId() && needed > InboxesLeft(key.tenant)) return nullptr;
  std::vector<SegmentIndex>& own = EmptyFor(key);
  const uint64_t to_add = needed - std::min<uint64_t>(needed, own.size());
  const uint64_t others_empty = empty_count_ - own.size();
  const uint64_t room = BudgetSegments() - std::min(BudgetSegments(), segment_count_);
  if (to_add > room + others_empty) return nullptr;
  for (uint64_t i = 0; i < to_add; ++i) {
    if (AddEmpty(own)) continue;
    for (; i > 0; --i) ReleaseEmpty(own);
    return nullptr;
  }
  std::unique_ptr<SizeClass>& size_class = classes_[key];
  if (size_class == nullptr) {
    size_class = std::make_unique<SizeClass>();
    size_class->key = key;
  }
  for (uint64_t i = 0; i < needed; ++i) {
    const SegmentIndex index = own.back();
    own.pop_back();
    --empty_count_;
    Attach(index, *size_class);
  }
  return size_class.get();
}

std::vector<SegmentIndex>& SlotAllocator::EmptyFor(const ClassKey& key) {
  if (key.writer == ShmClientId()) return tenants_[key.tenant.value()].empty;
  const auto [found, added] = writers_.try_emplace(key.writer);
  Writer& writer = found->second;
  if (added) writer.tenant = key.tenant;
  KVTIER_CHECK(writer.tenant == key.tenant && !writer.ended);
  // A writer's mapping goes with a slot size: it could not map an inbox once more for another.
  return writer.empty[key.slot_bytes];
}

// One more empty segment in `own`, which nobody else's bytes are in: what another emptied goes
// through the pool. False when the pool has none.
bool SlotAllocator::AddEmpty(std::vector<SegmentIndex>& own) {
  if (segment_count_ >= BudgetSegments() && !ReleaseEmptyOfOthers(own)) return false;
  absl::StatusOr<SegmentIndex> added = options_.pool->AddSegment();
  // The machine may have no more memory than what lies empty here.
  if (!added.ok() && ReleaseEmptyOfOthers(own)) added = options_.pool->AddSegment();
  growth_ = added.status();
  if (!added.ok()) return false;
  const uint32_t index = added->value();
  KVTIER_CHECK(index < options_.pool->segments_max());
  if (index >= table_.size()) {
    table_.resize(index + 1);
    incarnations_.resize(index + 1);
  }
  KVTIER_CHECK(!table_[index].taken);
  table_[index].taken = true;
  ++segment_count_;
  own.push_back(*added);
  ++empty_count_;
  return true;
}

// Pool segments before inboxes, whose writers would have to map new ones.
bool SlotAllocator::ReleaseEmptyOfOthers(const std::vector<SegmentIndex>& own) {
  if (empty_count_ == own.size()) return false;
  for (Tenant& tenant : tenants_) {
    if (tenant.empty.empty() || &tenant.empty == &own) continue;
    ReleaseEmpty(tenant.empty);
    return true;
  }
  for (auto& [id, writer] : writers_) {
    for (auto& [slot_bytes, empty] : writer.empty) {
      if (empty.empty() || &empty == &own) continue;
      ReleaseEmpty(empty);
      return true;
    }
  }
  KVTIER_CHECK(false);  // empty_count_ says that there is one
  return false;
}

void SlotAllocator::ReleaseEmpty(std::vector<SegmentIndex>& empty) {
  const SegmentIndex index = empty.back();
  empty.pop_back();
  --empty_count_;
  Release(index);
}

void SlotAllocator::Release(SegmentIndex index) {
  table_[index.value()] = Segment();
  --segment_count_;
  options_.pool->ReleaseSegment(index);
}

void SlotAllocator::ReleaseBeyondBudget() {
  static const std::vector<SegmentIndex> kNobodys;
  while (segment_count_ > BudgetSegments() && ReleaseEmptyOfOthers(kNobodys)) {
  }
}

void SlotAllocator::EndWriter(ShmClientId id) {
  const auto found = writers_.find(id);
  if (found == writers_.end()) return;
  Writer& writer = found->second;
  writer.ended = true;
  writer.newest.reset();
  for (auto& [slot_bytes, empty] : writer.empty) {
    while (!empty.empty()) ReleaseEmpty(empty);
  }
  if (writer.segments == 0) writers_.erase(found);
}

uint64_t SlotAllocator::BudgetSegments() const {
  return static_cast<uint64_t>(options_.budget / segment_bytes_);
}

uint64_t SlotAllocator::InboxesLeft(TenantId tenant) const {
  return inboxes_max(tenant) - std::min(inboxes_max(tenant), inboxes(tenant));
}

void SlotAllocator::Attach(SegmentIndex index, SizeClass& size_class) {
  Segment& segment = table_[index.value()];
  // Fresh from the pool it has no slot size. A tenant or writer never changes without the pool.
  if (segment.slot_bytes != size_class.key.slot_bytes) {
    uint32_t& incarnation = incarnations_[index.value()];
    incarnation = incarnation == kIncarnationMax ? 1 : incarnation + 1;
    segment.slot_bytes = size_class.key.slot_bytes;
    segment.slot_count = static_cast<uint32_t>(segment_bytes_.count() / segment.slot_bytes);
    segment.free = FreeSlots(segment.slot_count);
    segment.runs = std::vector<uint16_t>(RunClassOf(segment.slot_count) + 1);
    segment.owners = std::vector<RowIndex>(segment.slot_count, kNoRow);
  }
  segment.size_class = &size_class;
  segment.writer = size_class.key.writer;
  if (size_class.vacant.empty()) {
    segment.ordinal = static_cast<uint32_t>(size_class.members.size());
    size_class.members.push_back(index.value());
  } else {
    segment.ordinal = size_class.vacant.back();
    size_class.vacant.pop_back();
    size_class.members[segment.ordinal] = index.value();
  }
  AddRun(segment, segment.slot_count);
  ++size_class.segment_count;
  size_class.free_slots += segment.slot_count;
  Tenant& tenant = tenants_[size_class.key.tenant.value()];
  ++tenant.segments;
  if (size_class.key.writer == ShmClientId()) return;
  ++tenant.inboxes;
  tenant.free_in_inboxes += Bytes(segment.slot_bytes) * segment.slot_count;
  ++writers_.at(size_class.key.writer).segments;
}

void SlotAllocator::Detach(SegmentIndex index) {
  Segment& segment = table_[index.value()];
  SizeClass& size_class = *segment.size_class;
  RemoveRun(segment, segment.slot_count);
  size_class.members[segment.ordinal] = kNoMember;
  size_class.vacant.push_back(segment.ordinal);
  size_class.free_slots -= segment.slot_count;
  const ClassKey key = size_class.key;
  --tenants_[key.tenant.value()].segments;
  segment.size_class = nullptr;
  if (--size_class.segment_count == 0) {
    if (recent_ == &size_class) recent_ = nullptr;
    classes_.erase(key);
  }
  if (key.writer != ShmClientId()) {
    const auto writer = writers_.find(key.writer);
    Tenant& tenant = tenants_[key.tenant.value()];
    --tenant.inboxes;
    tenant.free_in_inboxes -= Bytes(segment.slot_bytes) * segment.slot_count;
    --writer->second.segments;
    if (writer->second.newest == index) writer->second.newest.reset();
    if (writer->second.ended) {
      Release(index);
      if (writer->second.segments == 0) writers_.erase(writer);
      return;
    }
  }
  EmptyFor(key).push_back(index);
  ++empty_count_;
  ReleaseBeyondBudget();
}

}  // namespace kvtier
