#include "tiering/memory/slot_allocator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/memory/slot_segments.h"

namespace kvtier {
namespace {

// `step` is a power of two.
constexpr int64_t RoundUp(int64_t n, int64_t step) { return (n + step - 1) & -step; }

}  // namespace

absl::StatusOr<std::unique_ptr<SlotAllocator>> SlotAllocator::Create(Options options) {
  if (options.pool == nullptr) return absl::InvalidArgumentError("slot allocator: no pool given");
  const std::string& name = options.pool->description().name;
  const Bytes segment_bytes = options.pool->segment_bytes();
  const uint32_t segments_max = options.pool->segments_max();
  if (options.id.value() >= CopyRef::kPoolsMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("pool %s: number %d is above the limit of %d pools", name,
                        options.id.value(), CopyRef::kPoolsMax));
  }
  if (segments_max > CopyRef::kSegmentsMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("pool %s: %d segments, but at most %d can be named; use larger segments",
                        name, segments_max, CopyRef::kSegmentsMax));
  }
  if (segment_bytes <= Bytes(0) || segment_bytes.count() % 4096 != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "pool %s: segments of %d bytes are not a multiple of 4 KiB", name, segment_bytes.count()));
  }
  const Bytes limit = segment_bytes * segments_max;
  if (options.budget < segment_bytes || options.budget > limit) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "pool %s: a budget of %s is not within one segment of %s and the pool's limit of %s", name,
        FormatBytes(options.budget), FormatBytes(segment_bytes), FormatBytes(limit)));
  }
  for (size_t i = 0; i < options.quota.size(); ++i) {
    if (options.quota[i] < Bytes(0)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("pool %s: the quota of tenant %d is %d bytes, below 0", name, i,
                          options.quota[i].count()));
    }
  }
  return std::unique_ptr<SlotAllocator>(new SlotAllocator(std::move(options)));
}

SlotAllocator::SlotAllocator(Options options)
    : options_(std::move(options)), segment_bytes_(options_.pool->segment_bytes()) {
  tenants_.resize(options_.quota.size());
  for (size_t i = 0; i < tenants_.size(); ++i) {
    tenants_[i].segments_max = static_cast<uint64_t>(options_.quota[i] / segment_bytes_);
  }
}

SlotAllocator::~SlotAllocator() {
  for (uint32_t i = 0; i < table_.size(); ++i) {
    if (table_[i].taken) options_.pool->ReleaseSegment(SegmentIndex(i), table_[i].tenant);
  }
}

Bytes SlotAllocator::SlotBytes(Bytes block_bytes) const {
  KVTIER_CHECK(block_bytes > Bytes(0));
  constexpr int64_t kSlotsMax = CopyRef::kSlotsMax;
  const int64_t bytes =
      std::max(block_bytes.count(), RoundUp(segment_bytes_.count(), kSlotsMax) / kSlotsMax);
  return Bytes(RoundUp(bytes, bytes >= KiB(64).count() ? KiB(4).count() : 64));
}

bool SlotAllocator::Allocate(TenantId tenant, Bytes block_bytes, size_t count,
                             std::vector<CopyRef>& slots, ShmClientId writer) {
  KVTIER_CHECK(tenant.value() < tenants_.size());
  const Bytes slot_bytes = SlotBytes(block_bytes);
  if (slot_bytes > segment_bytes_) return false;
  if (count == 0) return true;
  const ClassKey key{tenant, slot_bytes.count(), writer};
  SizeClass* size_class = FindClass(key);
  const uint64_t free = size_class == nullptr ? 0 : size_class->free_slots;
  if (free < count) {
    size_class = Grow(key, count - free);
    if (size_class == nullptr) return false;
  }
  for (uint64_t left = count; left > 0;) {
    const Place place = FindPlace(*size_class, left);
    const uint32_t taken = static_cast<uint32_t>(std::min<uint64_t>(left, place.run.count));
    Segment& segment = table_[place.segment.value()];
    // The end of the run that keeps runs of this length where runs of this length were: what is
    // freed piece by piece then grows together again.
    const uint32_t at_end = place.run.first + place.run.count - taken;
    const uint32_t first =
        place.run.first % taken != 0 && at_end % taken == 0 ? at_end : place.run.first;
    CountDraining(segment, false);
    segment.free.Take({first, taken});
    RemoveRun(segment, place.run.count);
    AddRun(segment, place.run.count - taken);
    segment.used += taken;
    CountDraining(segment, true);
    for (uint32_t i = 0; i < taken; ++i) slots.emplace_back(options_.id, place.segment, first + i);
    left -= taken;
    ++runs_handed_out_;
    if (writer != ShmClientId()) writers_.at(writer).newest = place.segment;
  }
  size_class->free_slots -= count;
  slots_handed_out_ += count;
  recent_ = size_class;
  const Bytes bytes = slot_bytes * static_cast<int64_t>(count);
  tenants_[tenant.value()].used += bytes;
  if (writer != ShmClientId()) tenants_[tenant.value()].free_in_inboxes -= bytes;
  used_ += bytes;
  return true;
}

void SlotAllocator::Free(CopyRef slot) {
  SegmentOf(slot);
  Segment& segment = table_[slot.segment().value()];
  const uint32_t before = segment.free.CountBefore(slot.slot());
  const uint32_t after = segment.free.CountFrom(slot.slot() + 1);
  CountDraining(segment, false);
  segment.free.Put(slot.slot());
  RemoveRun(segment, before);
  RemoveRun(segment, after);
  AddRun(segment, before + 1 + after);
  const bool was_retired = segment.owners[slot.slot()] == kRetiredSlot;
  if (was_retired) {
    --segment.retired;
    --segment.size_class->retired_slots;
    tenants_[segment.size_class->key.tenant.value()].retired -= Bytes(segment.slot_bytes);
  }
  segment.owners[slot.slot()] = kNoRow;
  --segment.used;
  CountDraining(segment, true);
  ++segment.size_class->free_slots;
  Tenant& tenant = tenants_[segment.size_class->key.tenant.value()];
  tenant.used -= Bytes(segment.slot_bytes);
  if (segment.writer != ShmClientId() && !was_retired)
    tenant.free_in_inboxes += Bytes(segment.slot_bytes);
  used_ -= Bytes(segment.slot_bytes);
  if (segment.used == 0) Detach(slot.segment());
}

SlotAllocator::SizeClass* SlotAllocator::FindClass(const ClassKey& key) const {
  if (recent_ != nullptr && recent_->key == key) return recent_;
  const auto found = classes_.find(key);
  return found == classes_.end() ? nullptr : found->second.get();
}

// `size_class` has a free slot.
SlotAllocator::Place SlotAllocator::FindPlace(SizeClass& size_class, uint64_t count) {
  const auto member = [&](uint32_t run_class, uint32_t ordinal) {
    const SegmentIndex index(size_class.members[ordinal]);
    FreeSlots& free = table_[index.value()].free;
    const uint32_t min = RunClassMin(run_class);
    const SlotRun run = min <= kExactRunMax ? free.FindExact(min)
                                            : free.FindLong(min, RunClassMin(run_class + 1) - 1);
    KVTIER_CHECK(run.count > 0);
    return Place{index, run};
  };
  if (count <= CopyRef::kSlotsMax) {
    const uint32_t wanted = static_cast<uint32_t>(count);
    // Every run of a class holds `count` if its shortest one does.
    const uint32_t own_class = RunClassOf(wanted);
    const uint32_t first_class = RunClassMin(own_class) >= wanted ? own_class : own_class + 1;
    const uint32_t run_class = size_class.NextClass(first_class);
    if (run_class < kRunClasses) return member(run_class, size_class.with_run[run_class].Next(0));
    if (first_class > own_class) {
      // Of a class whose runs may be too short: look at them, but only once while nothing is freed.
      const IndexSet& candidates = size_class.with_run[own_class];
      for (uint32_t i = candidates.Next(0); i < IndexSet::kEnd; i = candidates.Next(i + 1)) {
        Segment& segment = table_[size_class.members[i]];
        if (segment.longest_max < wanted) continue;
        const SlotRun run = segment.free.FindLong(wanted, CopyRef::kSlotsMax);
        if (run.count > 0) return {SegmentIndex(size_class.members[i]), run};
        segment.longest_max = wanted - 1;
      }
    }
  }
  const uint32_t longest = size_class.LastClass();
  return member(longest, size_class.with_run[longest].Next(0));
}

void SlotAllocator::AddRun(Segment& segment, uint32_t count) {
  if (count == 0) return;
  const uint32_t run_class = RunClassOf(count);
  if (segment.runs[run_class]++ == 0) segment.size_class->Mark(run_class, segment.ordinal);
  segment.longest_max = std::max(segment.longest_max, count);
}

void SlotAllocator::RemoveRun(Segment& segment, uint32_t count) {
  if (count == 0) return;
  const uint32_t run_class = RunClassOf(count);
  if (--segment.runs[run_class] == 0) segment.size_class->Unmark(run_class, segment.ordinal);
}

// Aborts unless the slot is handed out.
const SlotAllocator::Segment& SlotAllocator::SegmentOf(CopyRef slot) const {
  KVTIER_CHECK(slot.valid() && slot.pool() == options_.id &&
               slot.segment().value() < table_.size());
  const Segment& segment = table_[slot.segment().value()];
  KVTIER_CHECK(segment.size_class != nullptr && slot.slot() < segment.slot_count &&
               !segment.free.Contains(slot.slot()));
  return segment;
}

void SlotAllocator::SetOwner(CopyRef slot, RowIndex row) {
  SegmentOf(slot);
  RowIndex& owner = table_[slot.segment().value()].owners[slot.slot()];
  KVTIER_CHECK(owner != kRetiredSlot && row != kRetiredSlot);
  owner = row;
}

Bytes SlotAllocator::Retire(CopyRef slot) {
  SegmentOf(slot);
  Segment& segment = table_[slot.segment().value()];
  KVTIER_CHECK(segment.owners[slot.slot()] != kRetiredSlot);
  CountDraining(segment, false);
  segment.owners[slot.slot()] = kRetiredSlot;
  ++segment.retired;
  CountDraining(segment, true);
  ++segment.size_class->retired_slots;
  Tenant& tenant = tenants_[segment.size_class->key.tenant.value()];
  tenant.retired += Bytes(segment.slot_bytes);
  if (segment.writer != ShmClientId()) tenant.free_in_inboxes += Bytes(segment.slot_bytes);
  return Bytes(segment.slot_bytes);
}

RowIndex SlotAllocator::owner(CopyRef slot) const {
  KVTIER_CHECK(slot.valid() && slot.pool() == options_.id);
  if (slot.segment().value() >= table_.size()) return kNoRow;
  const Segment& segment = table_[slot.segment().value()];
  const RowIndex row = slot.slot() < segment.owners.size() ? segment.owners[slot.slot()] : kNoRow;
  return row == kRetiredSlot ? kNoRow : row;
}

std::optional<SlotAllocator::SegmentUse> SlotAllocator::UseOf(SegmentIndex index) const {
  if (index.value() >= table_.size() || table_[index.value()].size_class == nullptr)
    return std::nullopt;
  const Segment& segment = table_[index.value()];
  const ClassKey& key = segment.size_class->key;
  const bool inbox = key.writer != ShmClientId();
  return SegmentUse{.tenant = key.tenant,
                    .slot_bytes = Bytes(key.slot_bytes),
                    .slots = segment.slot_count,
                    .used_slots = segment.used,
                    .retired_slots = segment.retired,
                    .incarnation = incarnations_[index.value()],
                    .writer = key.writer,
                    .newest = inbox && writers_.at(key.writer).newest == index,
                    .granted = segment.granted,
                    .sealed = !inbox || segment.sealed};
}

uint32_t SlotAllocator::Incarnation(CopyRef slot) const {
  SegmentOf(slot);
  return incarnations_[slot.segment().value()];
}

TenantId SlotAllocator::tenant(CopyRef slot) const {
  return SegmentOf(slot).size_class->key.tenant;
}

ShmClientId SlotAllocator::writer(CopyRef slot) const {
  return SegmentOf(slot).size_class->key.writer;
}

void SlotAllocator::MarkGranted(SegmentIndex index) {
  const std::optional<SegmentUse> use = UseOf(index);
  KVTIER_CHECK(use.has_value() && use->writer != ShmClientId() && !use->granted);
  table_[index.value()].granted = true;
}

void SlotAllocator::MarkReturned(SegmentIndex index) {
  const std::optional<InboxUse> inbox = InboxOf(index);
  KVTIER_CHECK(inbox.has_value() && inbox->granted && !inbox->sealed);
  table_[index.value()].granted = false;
}

void SlotAllocator::MarkSealed(SegmentIndex index) {
  const std::optional<InboxUse> inbox = InboxOf(index);
  KVTIER_CHECK(inbox.has_value() && inbox->granted && !inbox->sealed);
  table_[index.value()].sealed = true;
}

std::optional<SlotAllocator::InboxUse> SlotAllocator::InboxOf(SegmentIndex index) const {
  if (index.value() >= table_.size()) return std::nullopt;
  const Segment& segment = table_[index.value()];
  if (segment.writer == ShmClientId()) return std::nullopt;
  return InboxUse{.writer = segment.writer,
                  .incarnation = incarnations_[index.value()],
                  .granted = segment.granted,
                  .sealed = segment.sealed};
}

Bytes SlotAllocator::OffsetOf(CopyRef slot) const {
  return Bytes(SegmentOf(slot).slot_bytes) * slot.slot();
}

std::byte* SlotAllocator::AddressOf(CopyRef slot) const {
  const Bytes offset = OffsetOf(slot);
  std::byte* const base = options_.pool->Address(slot.segment());
  return base == nullptr ? nullptr : base + offset.count();
}

Bytes SlotAllocator::SlotBytesOf(CopyRef slot) const { return Bytes(SegmentOf(slot).slot_bytes); }

Bytes SlotAllocator::used(TenantId tenant) const {
  KVTIER_CHECK(tenant.value() < tenants_.size());
  return tenants_[tenant.value()].used;
}

Bytes SlotAllocator::retired(TenantId tenant) const {
  KVTIER_CHECK(tenant.value() < tenants_.size());
  return tenants_[tenant.value()].retired;
}

Bytes SlotAllocator::retired() const {
  Bytes sum;
  for (const Tenant& tenant : tenants_) sum += tenant.retired;
  return sum;
}

void SlotAllocator::CountDraining(const Segment& segment, bool add) {
  if (!segment.draining()) return;
  uint64_t& of_tenant = tenants_[segment.size_class->key.tenant.value()].draining;
  uint32_t& of_class = segment.size_class->draining;
  of_tenant = add ? of_tenant + 1 : of_tenant - 1;
  of_class = add ? of_class + 1 : of_class - 1;
}

uint64_t SlotAllocator::inboxes(TenantId tenant) const {
  KVTIER_CHECK(tenant.value() < tenants_.size());
  return tenants_[tenant.value()].inboxes;
}

Bytes SlotAllocator::free_in_inboxes(TenantId tenant) const {
  KVTIER_CHECK(tenant.value() < tenants_.size());
  return tenants_[tenant.value()].free_in_inboxes;
}

uint64_t SlotAllocator::inboxes_max(TenantId tenant) const {
  KVTIER_CHECK(tenant.value() < tenants_.size());
  const uint64_t limit = std::min(tenants_[tenant.value()].segments_max, BudgetSegments());
  return options_.inboxes_limited ? limit * 2 / 3 : limit;
}

Bytes SlotAllocator::RoomNow(TenantId id, Bytes block_bytes, ShmClientId writer) const {
  KVTIER_CHECK(id.value() < tenants_.size());
  const ClassKey key{id, SlotBytes(block_bytes).count(), writer};
  const Tenant& tenant = tenants_[id.value()];
  uint64_t in_quota = tenant.segments_max - std::min(tenant.segments_max, tenant.segments);
  if (writer != ShmClientId()) in_quota = std::min(in_quota, InboxesLeft(id));
  const uint64_t in_budget =
      empty_count_ + BudgetSegments() - std::min(BudgetSegments(), segment_count_);
  uint64_t segments = std::min(in_quota, in_budget);
  if (const uint64_t kept = options_.pool->kept(id); kept > 0) {
    // What is empty can be had as it is, or may go back for fresh ones.
    const uint64_t most = KeptOrHadMax(tenant);
    const uint64_t in_charge = most - std::min(most, kept + tenant.segments);
    segments = std::min(segments, std::max(EmptyCountFor(key), in_charge));
  }
  const int64_t slots_each = segment_bytes_.count() / key.slot_bytes;
  const SizeClass* size_class = FindClass(key);
  return Bytes(key.slot_bytes) *
         (static_cast<int64_t>(size_class == nullptr ? 0 : size_class->free_slots) +
          static_cast<int64_t>(segments) * slots_each);
}

Bytes SlotAllocator::RoomToCome(TenantId tenant, Bytes block_bytes, ShmClientId writer) const {
  KVTIER_CHECK(tenant.value() < tenants_.size());
  const ClassKey key{tenant, SlotBytes(block_bytes).count(), writer};
  const int64_t slots_each = segment_bytes_.count() / key.slot_bytes;
  const auto draining = static_cast<int64_t>(tenants_[tenant.value()].draining);
  const SizeClass* own = FindClass(key);
  if (own == nullptr) return Bytes(key.slot_bytes) * (draining * slots_each);
  return Bytes(key.slot_bytes) *
         (static_cast<int64_t>(own->retired_slots) + (draining - own->draining) * slots_each);
}

Bytes SlotAllocator::held(TenantId tenant) const {
  KVTIER_CHECK(tenant.value() < tenants_.size());
  return segment_bytes_ * static_cast<int64_t>(tenants_[tenant.value()].segments);
}

Bytes SlotAllocator::held() const {
  return segment_bytes_ * static_cast<int64_t>(segment_count_ - empty_count_);
}

Bytes SlotAllocator::kept(TenantId tenant) const {
  return segment_bytes_ * static_cast<int64_t>(options_.pool->kept(tenant));
}

bool SlotAllocator::keeps_too_much(TenantId id) const {
  KVTIER_CHECK(id.value() < tenants_.size());
  const Tenant& tenant = tenants_[id.value()];
  return !tenant.too_much_kept.ok() && options_.pool->kept(id) > 0;
}

const absl::Status& SlotAllocator::growth(TenantId id) const {
  KVTIER_CHECK(id.value() < tenants_.size());
  const absl::Status& own = tenants_[id.value()].too_much_kept;
  return own.ok() ? growth_ : own;
}

Bytes SlotAllocator::quota(TenantId tenant) const {
  KVTIER_CHECK(tenant.value() < options_.quota.size());
  return options_.quota[tenant.value()];
}

absl::Status SlotAllocator::SetBudget(Bytes budget) {
  const Bytes limit = segment_bytes_ * options_.pool->segments_max();
  if (budget < Bytes(0) || budget > limit) {
    return absl::InvalidArgumentError(
        absl::StrFormat("pool %s: a budget of %d bytes is not within 0 and the pool's "
                        "limit of %d bytes",
                        options_.pool->description().name, budget.count(), limit.count()));
  }
  options_.budget = budget;
  ReleaseBeyondBudget();
  return absl::OkStatus();
}

Bytes SlotAllocator::excess() const {
  return std::max(Bytes(0),
                  segment_bytes_ * static_cast<int64_t>(segment_count_) - options_.budget);
}

Bytes SlotAllocator::excess_once_freed() const {
  uint64_t draining = 0;
  for (const Tenant& tenant : tenants_) draining += tenant.draining;
  return std::max(Bytes(0), excess() - segment_bytes_ * static_cast<int64_t>(draining));
}

std::optional<SegmentIndex> SlotAllocator::EmptiestSegment(TenantId tenant, Bytes block_bytes,
                                                           ShmClientId writer) const {
  const std::vector<SegmentIndex> first = EmptiestSegments(tenant, block_bytes, writer, 1);
  return first.empty() ? std::nullopt : std::optional(first.front());
}

std::vector<SegmentIndex> SlotAllocator::EmptiestSegments(TenantId tenant, Bytes block_bytes,
                                                          ShmClientId writer, size_t count) const {
  const int64_t slot_bytes = block_bytes == Bytes(0) ? 0 : SlotBytes(block_bytes).count();
  const ClassKey other_than{tenant, slot_bytes, writer};
  const bool inboxes_only = writer != ShmClientId() && InboxesLeft(tenant) == 0;
  return Emptiest(tenant, count, [&](const ClassKey& key) {
    return key != other_than && (!inboxes_only || key.writer != ShmClientId());
  });
}

std::vector<SegmentIndex> SlotAllocator::EmptiestInboxes(TenantId tenant, size_t count) const {
  return Emptiest(tenant, count, [](const ClassKey& key) { return key.writer != ShmClientId(); });
}

std::vector<SegmentIndex> SlotAllocator::Emptiest(
    TenantId tenant, size_t count, absl::FunctionRef<bool(const ClassKey&)> wanted) const {
  struct Rank {
    bool stays;
    uint32_t in_use;
    uint32_t index;
    auto operator<=>(const Rank&) const = default;
  };
  std::vector<Rank> ranks;
  for (uint32_t i = 0; i < table_.size(); ++i) {
    const Segment& segment = table_[i];
    if (segment.size_class == nullptr || segment.draining()) continue;
    const ClassKey& key = segment.size_class->key;
    if (key.tenant != tenant || !wanted(key)) continue;
    const bool stays = key.writer == ShmClientId() || !writers_.at(key.writer).ended;
    ranks.push_back({stays, segment.used - segment.retired, i});
  }
  const size_t kept = std::min(count, ranks.size());
  std::partial_sort(ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(kept), ranks.end());
  std::vector<SegmentIndex> segments;
  for (size_t i = 0; i < kept; ++i) segments.emplace_back(ranks[i].index);
  return segments;
}

void SlotAllocator::ForEachUsed(SegmentIndex index, absl::FunctionRef<void(CopyRef)> visit) const {
  if (index.value() >= table_.size() || table_[index.value()].size_class == nullptr) return;
  const Segment& segment = table_[index.value()];
  for (uint32_t i = 0; i < segment.free.words(); ++i) {
    for (uint64_t left = ~segment.free.word(i); left != 0; left &= left - 1) {
      const uint32_t slot = i * 64 + static_cast<uint32_t>(__builtin_ctzll(left));
      if (slot >= segment.slot_count) return;
      visit(CopyRef(options_.id, index, slot));
    }
  }
}

}  // namespace kvtier
