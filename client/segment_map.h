// The segments of pools that this client has mapped, by the words that blocks are found with.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/mapping.h"
#include "client/memory_channel.h"
#include "client/section_places.h"
#include "proto/wire/attach_messages.h"
#include "proto/wire/residency_word.h"

namespace kvtier {

// One use of a segment. Does not change.
struct MappedSegment : std::enable_shared_from_this<MappedSegment> {
  std::shared_ptr<const MemoryChannel> channel;  // goes after the mapping
  Mapping mapping;
  uint32_t incarnation = 0;
  bool writable = false;
  uint32_t slots = 0;
  uint64_t slot_bytes = 0;
  std::string_view pool;

  // Null: the segment has no such slot, or its slots have fewer bytes.
  std::byte* Address(wire::ResidencyWord word, uint64_t bytes) const {
    if (word.slot() >= slots || bytes > slot_bytes) return nullptr;
    return mapping.data() + word.slot() * slot_bytes;
  }
};

// Thread-safe. Maps at most `segments_max` at a time; beyond, those that are met least recently by
// turn are unmapped and mapped again when they are needed. An inbox that is mapped for writing
// stays as long as its incarnation, because it is given out once only, and as long as anybody holds
// it (GetWritable).
class SegmentMap {
 public:
  static constexpr size_t kSegmentsMax = 8192;

  static absl::StatusOr<std::unique_ptr<SegmentMap>> Create(std::shared_ptr<MemoryChannel> channel,
                                                            SectionPlaces* places,
                                                            size_t segments_max = kSegmentsMax);
  ~SegmentMap();
  SegmentMap(const SegmentMap&) = delete;
  SegmentMap& operator=(const SegmentMap&) = delete;

  // What is mapped already; null otherwise. No lock and no system call. Inside a section; valid as
  // long.
  const MappedSegment* Find(wire::ResidencyWord word) const {
    const MappedSegment* const segment =
        table()[word.copy_bits() >> kSlotBits].load(std::memory_order_acquire);
    return segment != nullptr && segment->incarnation == word.incarnation() ? segment : nullptr;
  }
  // Maps for reading where needed. NOT_FOUND: that incarnation is over; UNAVAILABLE: the daemon
  // does not answer, or the segment's writer has not mapped it. Inside a section; valid as long.
  absl::StatusOr<const MappedSegment*> Get(wire::ResidencyWord word) ABSL_LOCKS_EXCLUDED(mutex_);
  // The same for writing, of an inbox; it stays mapped as long as it is held, used or not.
  absl::StatusOr<std::shared_ptr<const MappedSegment>> GetWritable(wire::ResidencyWord word)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Asks about the next `count` mappings by turn, or an eighth of all if that is more, and unmaps
  // those that are over: call it every now and then, as nobody says so. Waits `patience` at most
  // for the daemon, and not at all while another thread maps something; what has no answer by then
  // is asked on by the next call.
  void UnmapOver(size_t count, absl::Duration patience) ABSL_LOCKS_EXCLUDED(mutex_);

  // Rises whenever something is unmapped, before any section that can know of it is over: addresses
  // that were kept from earlier sections are to be resolved again then.
  uint64_t unmaps() const { return unmaps_.load(std::memory_order_acquire); }
  size_t mapped() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  static constexpr int kSlotBits = 14;
  static constexpr uint32_t kPools = 16;
  using Entry = std::atomic<const MappedSegment*>;

  SegmentMap(Mapping table, std::shared_ptr<MemoryChannel> channel, SectionPlaces* places,
             size_t segments_max);
  Entry* table() const { return reinterpret_cast<Entry*>(table_.data()); }
  absl::StatusOr<const MappedSegment*> FindOrMap(wire::ResidencyWord word,
                                                 wire::SegmentAccess access)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<const MappedSegment>> Map(wire::ResidencyWord word,
                                                           wire::SegmentAccess access)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // From now on it is the one of its number; the one before is retired.
  const MappedSegment* Insert(uint32_t number, std::shared_ptr<const MappedSegment> segment)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Asks again about the inbox of which the daemon did not say whether it is sealed. An error: it
  // still does not.
  absl::Status Settle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  struct Mapped {
    uint32_t number;  // in table_
    std::shared_ptr<const MappedSegment> segment;

    wire::ResidencyWord word() const { return {number << kSlotBits, segment->incarnation}; }
  };
  // The one whose turn it is next; something is mapped.
  const Mapped& NextByTurn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UnmapSomeOver(size_t count, absl::Duration patience) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Unmap(size_t at) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string_view PoolName(uint32_t pool, const std::string& name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Mapping table_;  // an Entry for each pool and segment; used pages only take memory
  const std::shared_ptr<MemoryChannel> channel_;
  SectionPlaces* const places_;
  const size_t segments_max_;
  std::atomic<uint64_t> unmaps_{0};

  mutable absl::Mutex mutex_;
  std::vector<Mapped> mapped_ ABSL_GUARDED_BY(mutex_);
  // An inbox that is mapped, while nobody knows whether it is sealed.
  wire::ResidencyWord unsettled_word_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const MappedSegment> unsettled_ ABSL_GUARDED_BY(mutex_);
  size_t next_victim_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<wire::ResidencyWord> asked_ ABSL_GUARDED_BY(mutex_);  // of a mapping, by UnmapOver
  std::array<std::unique_ptr<const std::string>, kPools> pools_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvtier
