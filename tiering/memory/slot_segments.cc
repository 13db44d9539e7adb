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
  Tenant& tenant = tenants_[key.first.value()];
  const uint64_t slots_each = static_cast<uint64_t>(segment_bytes_.count() / key.second);
  const uint64_t needed = missing_slots / slots_each + (missing_slots % slots_each != 0 ? 1 : 0);
  if (tenant.segments > tenant.segments_max || needed > tenant.segments_max - tenant.segments)
    return nullptr;
  const uint64_t to_add = needed - std::min<uint64_t>(needed, tenant.empty.size());
  const uint64_t others_empty = empty_count_ - tenant.empty.size();
  const uint64_t room = BudgetSegments() - std::min(BudgetSegments(), segment_count_);
  if (to_add > room + others_empty) return nullptr;
  for (uint64_t i = 0; i < to_add; ++i) {
    if (AddEmpty(key.first)) continue;
    for (; i > 0; --i) ReleaseEmpty(tenant);
    return nullptr;
  }
  std::unique_ptr<SizeClass>& size_class = classes_[key];
  if (size_class == nullptr) {
    size_class = std::make_unique<SizeClass>();
    size_class->key = key;
  }
  for (uint64_t i = 0; i < needed; ++i) {
    const SegmentIndex index = tenant.empty.back();
    tenant.empty.pop_back();
    --empty_count_;
    Attach(index, *size_class);
  }
  return size_class.get();
}

// One more empty segment for the tenant, which nobody else's bytes are in: what another emptied
// goes through the pool. False when the pool has none.
bool SlotAllocator::AddEmpty(TenantId tenant) {
  if (segment_count_ >= BudgetSegments() && !ReleaseEmptyOfOthers(tenant)) return false;
  absl::StatusOr<SegmentIndex> added = options_.pool->AddSegment();
  // The machine may have no more memory than what lies empty here.
  if (!added.ok() && ReleaseEmptyOfOthers(tenant)) added = options_.pool->AddSegment();
  growth_ = added.status();
  if (!added.ok()) return false;
  const uint32_t index = added->value();
  KVTIER_CHECK(index < options_.pool->segments_max());
  if (index >= table_.size()) table_.resize(index + 1);
  KVTIER_CHECK(!table_[index].taken);
  table_[index].taken = true;
  ++segment_count_;
  tenants_[tenant.value()].empty.push_back(*added);
  ++empty_count_;
  return true;
}

bool SlotAllocator::ReleaseEmptyOfOthers(TenantId tenant) {
  if (empty_count_ == tenants_[tenant.value()].empty.size()) return false;
  const auto other =
      std::find_if(tenants_.begin(), tenants_.end(), [this, tenant](const Tenant& candidate) {
        return !candidate.empty.empty() && &candidate != &tenants_[tenant.value()];
      });
  ReleaseEmpty(*other);
  return true;
}

void SlotAllocator::ReleaseEmpty(Tenant& tenant) {
  const SegmentIndex index = tenant.empty.back();
  tenant.empty.pop_back();
  --empty_count_;
  table_[index.value()] = Segment();
  --segment_count_;
  options_.pool->ReleaseSegment(index);
}

void SlotAllocator::ReleaseBeyondBudget() {
  for (size_t i = 0; i < tenants_.size() && empty_count_ > 0; ++i) {
    while (!tenants_[i].empty.empty() && segment_count_ > BudgetSegments())
      ReleaseEmpty(tenants_[i]);
  }
}

uint64_t SlotAllocator::BudgetSegments() const {
  return static_cast<uint64_t>(options_.budget / segment_bytes_);
}

void SlotAllocator::Attach(SegmentIndex index, SizeClass& size_class) {
  Segment& segment = table_[index.value()];
  if (incarnations_.size() <= index.value()) incarnations_.resize(index.value() + 1);
  uint32_t& incarnation = incarnations_[index.value()];
  incarnation = std::max(1u, (incarnation + 1) & 0x7fffffffu);
  if (segment.slot_bytes != size_class.key.second) {
    segment.slot_bytes = size_class.key.second;
    segment.slot_count = static_cast<uint32_t>(segment_bytes_.count() / segment.slot_bytes);
    segment.free = FreeSlots(segment.slot_count);
    segment.runs = std::vector<uint16_t>(RunClassOf(segment.slot_count) + 1);
    segment.owners = std::vector<RowIndex>(segment.slot_count, kNoRow);
  }
  segment.size_class = &size_class;
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
  ++tenants_[size_class.key.first.value()].segments;
}

void SlotAllocator::Detach(SegmentIndex index) {
  Segment& segment = table_[index.value()];
  SizeClass& size_class = *segment.size_class;
  RemoveRun(segment, segment.slot_count);
  size_class.members[segment.ordinal] = kNoMember;
  size_class.vacant.push_back(segment.ordinal);
  size_class.free_slots -= segment.slot_count;
  Tenant& tenant = tenants_[size_class.key.first.value()];
  --tenant.segments;
  segment.size_class = nullptr;
  if (--size_class.segment_count == 0) {
    if (recent_ == &size_class) recent_ = nullptr;
    classes_.erase(ClassKey(size_class.key));
  }
  tenant.empty.push_back(index);
  ++empty_count_;
  ReleaseBeyondBudget();
}

}  // namespace kvtier
