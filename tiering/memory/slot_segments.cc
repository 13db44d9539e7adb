// How the slot allocator comes by segments, cuts them into slots, and lets them go.
#include "tiering/memory/slot_segments.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/memory/slot_allocator.h"

namespace kvtier {

// The class with segments enough for `missing_slots` more, or null and nothing handed out.
SlotAllocator::SizeClass* SlotAllocator::Grow(ClassKey key, uint64_t missing_slots) {
  Tenant& tenant = tenants_[key.tenant.value()];
  tenant.too_much_kept = absl::OkStatus();
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
  if (to_add > 0 && !MayAdd(key.tenant, to_add, own)) return nullptr;
  for (uint64_t i = 0; i < to_add; ++i) {
    if (AddEmpty(key.tenant, own)) continue;
    for (; i > 0; --i) ReleaseEmpty(own);
    return nullptr;
  }
  SizeClass* size_class = FindClass(key);
  if (size_class == nullptr) {
    size_class = (classes_[key] = std::make_unique<SizeClass>()).get();
    size_class->key = key;
  }
  for (uint64_t i = 0; i < needed; ++i) {
    const SegmentIndex index = own.back();
    own.pop_back();
    --empty_count_;
    Attach(index, *size_class);
  }
  return size_class;
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

uint64_t SlotAllocator::EmptyCountFor(const ClassKey& key) const {
  if (key.writer == ShmClientId()) return tenants_[key.tenant.value()].empty.size();
  const auto writer = writers_.find(key.writer);
  if (writer == writers_.end()) return 0;
  const auto empty = writer->second.empty.find(key.slot_bytes);
  return empty == writer->second.empty.end() ? 0 : empty->second.size();
}

// One more empty segment in `own`, which nobody else's bytes are in: what another emptied goes
// through the pool. False when the pool has none.
bool SlotAllocator::AddEmpty(TenantId tenant, std::vector<SegmentIndex>& own) {
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
  table_[index].tenant = tenant;
  ++segment_count_;
  own.push_back(*added);
  ++empty_count_;
  return true;
}

// The sum of kept, had and empty segments of a tenant rises only here, by fresh ones: what is
// released is at most kept.
bool SlotAllocator::MayAdd(TenantId id, uint64_t fresh, const std::vector<SegmentIndex>& own) {
  Tenant& tenant = tenants_[id.value()];
  const uint64_t most = KeptOrHadMax(tenant);
  // What its processes still map of them is kept then, for a while at least. So they go as soon as
  // the tenant has more than its limit with them, and no more than that: what is kept has the limit
  // once more to wait in.
  const uint64_t in_hand = tenant.segments + EmptyOf(id) + fresh;
  for (uint64_t i = in_hand - std::min(in_hand, most / 2); i > 0; --i) {
    if (!ReleaseEmptyOfOthers(own, id)) break;
  }
  const uint64_t kept = options_.pool->kept(id);
  if (kept + tenant.segments + EmptyOf(id) + fresh <= most) return true;
  tenant.too_much_kept = absl::ResourceExhaustedError(absl::StrFormat(
      "processes of the tenant keep %d segments of %s mapped that were given back; with %d that it "
      "has and %d empty ones it gets none beyond %d until they unmap some",
      kept, FormatBytes(segment_bytes_), tenant.segments, EmptyOf(id), most));
  return false;
}

uint64_t SlotAllocator::EmptyOf(TenantId tenant) const {
  uint64_t sum = tenants_[tenant.value()].empty.size();
  for (const auto& [id, writer] : writers_) {
    if (writer.tenant != tenant) continue;
    for (const auto& [slot_bytes, empty] : writer.empty) sum += empty.size();
  }
  return sum;
}

uint64_t SlotAllocator::KeptOrHadMax(const Tenant& tenant) const {
  return 2 * std::min(tenant.segments_max, BudgetSegments());
}

// Pool segments before inboxes, whose writers would have to map new ones. Those of one tenant, or
// of all.
bool SlotAllocator::ReleaseEmptyOfOthers(const std::vector<SegmentIndex>& own,
                                         std::optional<TenantId> of) {
  if (empty_count_ == own.size()) return false;
  for (size_t i = 0; i < tenants_.size(); ++i) {
    Tenant& tenant = tenants_[i];
    if (of && of->value() != i) continue;
    if (tenant.empty.empty() || &tenant.empty == &own) continue;
    ReleaseEmpty(tenant.empty);
    return true;
  }
  for (auto& [id, writer] : writers_) {
    if (of && writer.tenant != *of) continue;
    for (auto& [slot_bytes, empty] : writer.empty) {
      if (empty.empty() || &empty == &own) continue;
      ReleaseEmpty(empty);
      return true;
    }
  }
  KVTIER_CHECK(of.has_value());  // empty_count_ says that there is one
  return false;
}

void SlotAllocator::ReleaseEmpty(std::vector<SegmentIndex>& empty) {
  const SegmentIndex index = empty.back();
  empty.pop_back();
  --empty_count_;
  Release(index);
}

void SlotAllocator::Release(SegmentIndex index) {
  const TenantId owner = table_[index.value()].tenant;
  table_[index.value()] = Segment();
  --segment_count_;
  options_.pool->ReleaseSegment(index, owner);
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
