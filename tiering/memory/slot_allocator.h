// Slots of one pool: segments cut into slots of one size, handed out in neighbouring runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiering/base/bytes.h"
#include "tiering/base/copy_ref.h"
#include "tiering/base/ids.h"
#include "tiering/memory/free_slots.h"
#include "tiering/memory/memory_pool.h"

namespace kvtier {

// Bookkeeping only: touches no slot's bytes. A segment belongs to one tenant and has one slot size
// while any of its slots is used. An emptied segment is held by nobody: it may take another size or
// tenant, and goes back to the pool when a lowered budget asks for it. Not thread-safe.
// Deterministic. Tenants must be in Options::quota, and slots must be handed out by this allocator
// and not freed since: anything else aborts.
//
// Inboxes: segments that a process outside maps for writing, their writer. They come fresh from the
// pool, only their writer gets slots in them, and they go back to the pool as a whole: what the
// writer has mapped could never be safe for anybody else's bytes. An emptied inbox waits for its
// writer, with its slot size, until others need the room or the writer ends.
//
// Memory that processes outside keep (MemoryPool::kept) is charged to the tenant that had it: it
// gets fresh segments only while those that are kept, those that it has and its empty ones are at
// most twice what quota and budget allow it. Beyond, its other empty ones go back first.
class SlotAllocator {
 public:
  struct Options {
    PoolId id;
    MemoryPool* pool = nullptr;  // outlives the allocator; its segments are all the allocator's
    Bytes budget;                // segments beyond it are not added
    std::vector<Bytes> quota;    // by tenant; counts whole segments
    // At most two thirds of what a tenant may have are inboxes. Blocks move into slots that are in
    // none.
    bool inboxes_limited = false;
  };
  // INVALID_ARGUMENT: more segments or pools than CopyRef can name, a budget below one segment or
  // above the pool's limit, a quota below zero.
  static absl::StatusOr<std::unique_ptr<SlotAllocator>> Create(Options options);
  // Gives every segment back to the pool.
  ~SlotAllocator();
  SlotAllocator(const SlotAllocator&) = delete;
  SlotAllocator& operator=(const SlotAllocator&) = delete;

  // Slot size for a block of `block_bytes` > 0: rounded up to 64 bytes, to 4 KiB from 64 KiB on,
  // and to at least segment_bytes / CopyRef::kSlotsMax. Blocks larger than a segment have no slots.
  Bytes SlotBytes(Bytes block_bytes) const;
  Bytes slot_bytes_max() const { return segment_bytes_; }

  // Appends `count` slots of size SlotBytes(block_bytes) for `tenant`: all or nothing, side by side
  // where possible (the shortest free run that holds all of them first, else the longest runs;
  // above 64 slots run lengths are told apart to within a quarter). Segments are added only when
  // the tenant's free slots of this size do not suffice. False when quota, budget or the machine
  // does not allow it, or a block is larger than a segment; nothing changed then. With a writer:
  // slots of its inboxes alone. A writer has one tenant and must not have ended.
  bool Allocate(TenantId tenant, Bytes block_bytes, size_t count, std::vector<CopyRef>& slots,
                ShmClientId writer = {});
  void Free(CopyRef slot);
  // The writer gets no more slots; its inboxes go back to the pool as they empty. Any number of
  // times, also for one that never had a slot.
  void EndWriter(ShmClientId writer);

  // Which chunk uses a slot; kNoRow until set, and after Retire and Free.
  void SetOwner(CopyRef slot, RowIndex row);
  RowIndex owner(CopyRef slot) const;
  // Nothing uses the slot any more and it will be freed soon: it has no owner and is counted as
  // retired until Free. Returns its size.
  Bytes Retire(CopyRef slot);

  // How a segment in use is used.
  struct SegmentUse {
    TenantId tenant;
    Bytes slot_bytes;
    uint32_t slots = 0;
    uint32_t used_slots = 0;
    uint32_t retired_slots = 0;  // of those
    // Number of this use of the segment by a tenant, slot size and writer: 1 to kIncarnationMax,
    // higher than for any use before.
    uint32_t incarnation = 0;
    ShmClientId writer;    // zero: no inbox
    bool newest = false;   // where its writer, which has not ended, got slots last
    bool granted = false;  // its writer was given it for writing
    bool sealed = true;    // nobody can map it for writing any more; always so without a writer
  };
  static constexpr uint32_t kIncarnationMax = 0x7fffffffu;
  // None for a segment without used slots, and for one that never was there.
  std::optional<SegmentUse> UseOf(SegmentIndex segment) const;
  // The same of a slot that is handed out.
  uint32_t Incarnation(CopyRef slot) const;
  TenantId tenant(CopyRef slot) const;
  ShmClientId writer(CopyRef slot) const;
  // An inbox in use is given to its writer. It may come back; once it is sealed it does not.
  void MarkGranted(SegmentIndex segment);
  void MarkReturned(SegmentIndex segment);
  void MarkSealed(SegmentIndex segment);
  // An inbox, in use or waiting empty for its writer.
  struct InboxUse {
    ShmClientId writer;
    uint32_t incarnation = 0;
    bool granted = false;
    bool sealed = false;
  };
  std::optional<InboxUse> InboxOf(SegmentIndex segment) const;

  Bytes OffsetOf(CopyRef slot) const;        // within its segment
  std::byte* AddressOf(CopyRef slot) const;  // null when the pool has none
  Bytes SlotBytesOf(CopyRef slot) const;

  // Bytes in slots handed out (not freed), and in segments held, of one tenant or of all. Empty
  // segments are held by nobody; whoever emptied one gets it as it is, others with zeroed bytes.
  Bytes used(TenantId tenant) const;
  Bytes used() const { return used_; }
  Bytes held(TenantId tenant) const;
  // Bytes of a tenant's slots, or of all, that are retired and not freed.
  Bytes retired(TenantId tenant) const;
  Bytes retired() const;
  // The tenant's inboxes in use, and how many there may be.
  uint64_t inboxes(TenantId tenant) const;
  uint64_t inboxes_max(TenantId tenant) const;
  // Slots in them that are free or retired, which are of use to one writer each.
  Bytes free_in_inboxes(TenantId tenant) const;
  // Some segment in use has slots for such blocks of theirs, free or not.
  bool HasSegment(TenantId tenant, Bytes block_bytes, ShmClientId writer = {}) const {
    return FindClass({tenant, SlotBytes(block_bytes).count(), writer}) != nullptr;
  }
  // What Allocate can use for such blocks, unless the machine refuses a segment.
  Bytes RoomNow(TenantId tenant, Bytes block_bytes, ShmClientId writer = {}) const;
  // What it can use once all that is retired is freed, beyond that: retired slots of their size and
  // writer, and the tenant's other segments without any slot that is not retired.
  Bytes RoomToCome(TenantId tenant, Bytes block_bytes, ShmClientId writer = {}) const;
  Bytes held() const;
  // Segments taken from the pool, empty ones included: what the budget limits.
  uint64_t segments() const { return segment_count_; }
  Bytes budget() const { return options_.budget; }
  Bytes quota(TenantId tenant) const;
  // 0 to the pool's limit, else INVALID_ARGUMENT with both numbers. Below held(): empty segments
  // are released now and as they empty; nothing is added until held() fits.
  absl::Status SetBudget(Bytes budget);
  // Why the tenant last got no segment although quota and budget allowed it: it keeps too much, or
  // the pool refused it, or anybody else. OK: there was one since then, or none was asked for.
  const absl::Status& growth(TenantId tenant) const;
  // It was refused a segment for what it keeps, and still keeps some: emptying another of its
  // segments would bring no room.
  bool keeps_too_much(TenantId tenant) const;
  // Memory given back to the pool that processes outside keep of what this tenant had.
  Bytes kept(TenantId tenant) const;
  // How far the pool is over its budget; 0 when it fits. `once_freed`: not counting segments whose
  // used slots are all retired, and which come back without anything else being given up.
  Bytes excess() const;
  Bytes excess_once_freed() const;

  // The tenant's segment with the fewest slots in use and not retired that Allocate would not use
  // for `block_bytes` and `writer` (any segment when block_bytes is 0): what to evacuate so that
  // they can have it.
  // Inboxes of ended writers come first. None when there is no such segment. Looks at every
  // segment.
  std::optional<SegmentIndex> EmptiestSegment(TenantId tenant, Bytes block_bytes,
                                              ShmClientId writer = {}) const;
  // The same one and those that come next, at most `count`. None of them has retired slots alone.
  std::vector<SegmentIndex> EmptiestSegments(TenantId tenant, Bytes block_bytes, ShmClientId writer,
                                             size_t count) const;
  // The tenant's inboxes, at most `count`, in the same order and without those that have retired
  // slots alone.
  std::vector<SegmentIndex> EmptiestInboxes(TenantId tenant, size_t count) const;
  // In slot order. `visit` must not allocate or free.
  void ForEachUsed(SegmentIndex segment, absl::FunctionRef<void(CopyRef)> visit) const;

  // Slots allocated so far divided by the runs they were handed out in, one Allocate call at a
  // time; 0 before the first.
  double mean_run_length() const;
  Bytes metadata_bytes() const;
  // Aborts when a count contradicts a bitmap. Looks at every slot.
  void CheckInvariants() const;

 private:
  // A tenant, a slot size and a writer: the segments that the tenant has cut into slots of that
  // size, and that this writer writes.
  struct SizeClass;
  struct Segment;
  struct Tenant {
    uint64_t segments_max = 0;  // the quota
    uint64_t segments = 0;
    uint64_t inboxes = 0;  // of those
    Bytes free_in_inboxes;
    Bytes used;
    Bytes retired;
    uint64_t draining = 0;  // segments whose used slots are all retired
    // Taken from the pool and held by nobody. Only this tenant's bytes may be in them, so others
    // get them by way of the pool.
    std::vector<SegmentIndex> empty;
    absl::Status too_much_kept;  // at its last request; OK: it was not
  };
  struct Writer {
    TenantId tenant;
    uint64_t segments = 0;  // in use
    bool ended = false;
    std::optional<SegmentIndex> newest;  // that it got slots in last, while that is in use
    // Inboxes that it emptied and nobody holds, by slot size.
    std::map<int64_t, std::vector<SegmentIndex>> empty;
  };
  // Where `count` or the longest run of slots of a class is.
  struct Place {
    SegmentIndex segment;
    SlotRun run;
  };
  struct ClassKey {
    TenantId tenant;
    int64_t slot_bytes = 0;
    ShmClientId writer;

    bool operator==(const ClassKey&) const = default;
    template <typename H>
    friend H AbslHashValue(H h, const ClassKey& key) {
      return H::combine(std::move(h), key.tenant, key.slot_bytes, key.writer);
    }
  };

  explicit SlotAllocator(Options options);

  SizeClass* FindClass(const ClassKey& key) const;
  SizeClass* Grow(ClassKey key, uint64_t missing_slots);
  void Attach(SegmentIndex index, SizeClass& size_class);
  void Detach(SegmentIndex index);
  // The empty segments that a class may take as they are.
  std::vector<SegmentIndex>& EmptyFor(const ClassKey& key);
  uint64_t EmptyCountFor(const ClassKey& key) const;
  bool AddEmpty(TenantId tenant, std::vector<SegmentIndex>& own);
  // Whether the tenant may have `fresh` segments beside those it keeps, has, and has empty.
  bool MayAdd(TenantId tenant, uint64_t fresh, const std::vector<SegmentIndex>& own);
  // All of the tenant's, its inboxes included.
  uint64_t EmptyOf(TenantId tenant) const;
  uint64_t KeptOrHadMax(const Tenant& tenant) const;
  bool ReleaseEmptyOfOthers(const std::vector<SegmentIndex>& own,
                            std::optional<TenantId> of = std::nullopt);
  void ReleaseEmpty(std::vector<SegmentIndex>& empty);
  void Release(SegmentIndex index);
  void ReleaseBeyondBudget();
  uint64_t BudgetSegments() const;
  uint64_t InboxesLeft(TenantId tenant) const;
  Place FindPlace(SizeClass& size_class, uint64_t count);
  void AddRun(Segment& segment, uint32_t count);
  void RemoveRun(Segment& segment, uint32_t count);
  const Segment& SegmentOf(CopyRef slot) const;
  // Those of the tenant that are `wanted`, by what EmptiestSegments orders them by.
  std::vector<SegmentIndex> Emptiest(TenantId tenant, size_t count,
                                     absl::FunctionRef<bool(const ClassKey&)> wanted) const;
  // Counts the segment among those that drain, before and after its slots change.
  void CountDraining(const Segment& segment, bool add);
  void CheckSegment(SegmentIndex index) const;

  Options options_;
  Bytes segment_bytes_;
  std::vector<Segment> table_;  // by SegmentIndex, up to the largest one seen
  // By SegmentIndex; stays when a segment goes back to the pool.
  std::vector<uint32_t> incarnations_;
  std::vector<Tenant> tenants_;  // by TenantId
  // Those that have or had inboxes and may get more. Ordered, so that a run can be repeated.
  std::map<ShmClientId, Writer> writers_;
  absl::flat_hash_map<ClassKey, std::unique_ptr<SizeClass>> classes_;  // those with segments
  SizeClass* recent_ = nullptr;  // of the last Allocate: the next one often wants the same
  uint64_t segment_count_ = 0;   // taken from the pool
  uint64_t empty_count_ = 0;     // of those, held by nobody
  absl::Status growth_;
  Bytes used_;
  uint64_t slots_handed_out_ = 0;  // ever
  uint64_t runs_handed_out_ = 0;
};

}  // namespace kvtier
