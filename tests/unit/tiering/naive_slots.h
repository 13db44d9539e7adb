// What a SlotAllocator must do, from sets of slots alone: slow, and plainly right.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "tiering/base/bytes.h"
#include "tiering/base/ids.h"
#include "tiering/memory/slot_allocator.h"

namespace kvtier {

// Of one pool of segments of one size. Writers are numbers, zero for none.
class NaiveSlots {
 public:
  NaiveSlots(Bytes segment_bytes, std::vector<Bytes> quota)
      : segment_bytes_(segment_bytes), quota_(std::move(quota)) {}

  struct Segment {
    TenantId tenant;
    Bytes slot_bytes;
    uint32_t writer = 0;
    std::set<uint32_t> used;
    std::set<uint32_t> retired;
  };

  // Lengths of the free runs in the segments that the tenant has with that size and writer.
  std::multiset<uint64_t> FreeRuns(TenantId tenant, Bytes slot_bytes, uint32_t writer) const {
    std::multiset<uint64_t> runs;
    for (const auto& [index, segment] : segments) {
      if (segment.tenant != tenant || segment.slot_bytes != slot_bytes || segment.writer != writer)
        continue;
      uint32_t next = 0;
      for (const uint32_t slot : segment.used) {
        if (slot > next) runs.insert(slot - next);
        next = slot + 1;
      }
      const uint32_t count = static_cast<uint32_t>(segment_bytes_ / slot_bytes);
      if (count > next) runs.insert(count - next);
    }
    return runs;
  }
  uint64_t Held(TenantId tenant) const {
    uint64_t held = 0;
    for (const auto& [index, segment] : segments) held += segment.tenant == tenant ? 1 : 0;
    return held;
  }
  uint64_t Inboxes(TenantId tenant) const {
    uint64_t inboxes = 0;
    for (const auto& [index, segment] : segments)
      inboxes += segment.tenant == tenant && segment.writer != 0 ? 1 : 0;
    return inboxes;
  }
  Bytes FreeInInboxes(TenantId tenant) const {
    Bytes free;
    for (const auto& [index, segment] : segments) {
      if (segment.tenant != tenant || segment.writer == 0) continue;
      const int64_t in_use = static_cast<int64_t>(segment.used.size() - segment.retired.size());
      free += segment.slot_bytes * (segment_bytes_ / segment.slot_bytes - in_use);
    }
    return free;
  }
  bool HasSegment(TenantId tenant, Bytes slot_bytes, uint32_t writer) const {
    return std::any_of(segments.begin(), segments.end(), [&](const auto& entry) {
      const Segment& segment = entry.second;
      return segment.tenant == tenant && segment.slot_bytes == slot_bytes &&
             segment.writer == writer;
    });
  }
  Bytes Used(TenantId tenant) const {
    Bytes used;
    for (const auto& [index, segment] : segments) {
      if (segment.tenant == tenant)
        used += segment.slot_bytes * static_cast<int64_t>(segment.used.size());
    }
    return used;
  }
  uint64_t NeededSegments(TenantId tenant, Bytes slot_bytes, uint32_t writer,
                          uint64_t count) const {
    uint64_t free = 0;
    for (const uint64_t run : FreeRuns(tenant, slot_bytes, writer)) free += run;
    const uint64_t each = static_cast<uint64_t>(segment_bytes_ / slot_bytes);
    return free >= count ? 0 : (count - free + each - 1) / each;
  }
  uint64_t QuotaSegments(TenantId tenant) const {
    return static_cast<uint64_t>(quota_[tenant.value()] / segment_bytes_);
  }

  // Bytes that retired slots hold back from blocks of that size.
  Bytes RoomToCome(TenantId tenant, Bytes slot_bytes, uint32_t writer) const {
    int64_t slots = 0;
    for (const auto& [index, segment] : segments) {
      if (segment.tenant != tenant) continue;
      if (segment.slot_bytes == slot_bytes && segment.writer == writer) {
        slots += static_cast<int64_t>(segment.retired.size());
      } else if (segment.retired == segment.used) {
        slots += segment_bytes_ / slot_bytes;
      }
    }
    return slot_bytes * slots;
  }
  // Segments, or inboxes only, that are not used for such blocks, in the order to evacuate them.
  std::vector<SegmentIndex> Emptiest(TenantId tenant, Bytes slot_bytes, uint32_t writer,
                                     bool inboxes_only = false) const {
    std::set<std::tuple<bool, size_t, uint32_t>> order;
    for (const auto& [index, segment] : segments) {
      if (segment.tenant != tenant || segment.retired == segment.used) continue;
      if (inboxes_only && segment.writer == 0) continue;
      if (segment.slot_bytes == slot_bytes && segment.writer == writer) continue;
      order.insert(
          {!ended.contains(segment.writer), segment.used.size() - segment.retired.size(), index});
    }
    std::vector<SegmentIndex> result;
    for (const auto& [stays, used, index] : order) result.emplace_back(index);
    return result;
  }

  // The same of inboxes alone.
  std::vector<SegmentIndex> EmptiestInboxes(TenantId tenant) const {
    std::vector<SegmentIndex> result = Emptiest(tenant, Bytes(0), 0);
    std::erase_if(result,
                  [&](SegmentIndex index) { return segments.at(index.value()).writer == 0; });
    return result;
  }
  Bytes Retired() const {
    Bytes sum;
    for (const auto& [index, segment] : segments)
      sum += segment.slot_bytes * static_cast<int64_t>(segment.retired.size());
    return sum;
  }
  // Segments in use, without those that come back when all that is retired is freed.
  int64_t HeldOnceFreed() const {
    int64_t held = 0;
    for (const auto& [index, segment] : segments) held += segment.retired != segment.used ? 1 : 0;
    return held;
  }

  std::map<uint32_t, Segment> segments;  // those in use
  std::map<uint32_t, uint32_t> newest;   // by writer: the segment that it got slots in last
  std::set<uint32_t> ended;              // writers
  uint64_t Empty() const {
    uint64_t sum = 0;
    for (const auto& [tenant, count] : empty) sum += count;
    return sum;
  }
  uint64_t Taken() const { return segments.size() + Empty(); }
  // Who emptied segments and may have them as they are: a writer, or zero; then its slot size, or
  // the tenant.
  using Emptier = std::pair<uint32_t, int64_t>;
  static Emptier EmptierOf(TenantId tenant, Bytes slot_bytes, uint32_t writer) {
    return {writer, writer == 0 ? tenant.value() : slot_bytes.count()};
  }
  // Gives the pool an empty segment of the first one that has one and is not `other_than`.
  bool ReleaseOne(std::optional<Emptier> other_than) {
    for (auto& [emptier, count] : empty) {
      if (count == 0 || emptier == other_than) continue;
      --count;
      return true;
    }
    return false;
  }

  std::map<Emptier, uint64_t> empty;
  // By segment that was emptied or is in use: which use of it that was, by whom and of what size.
  struct Use {
    uint32_t incarnation = 0;
    TenantId tenant;
    Bytes slot_bytes;
    uint32_t writer = 0;
    uint64_t adds = 0;  // of the pool, when it was taken
  };
  std::map<uint32_t, Use> uses;

 private:
  Bytes segment_bytes_;
  std::vector<Bytes> quota_;
};

}  // namespace kvtier
