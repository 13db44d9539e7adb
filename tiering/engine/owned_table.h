// Entries with handles that are never reused, each in the list of the session that owns it.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "tiering/base/bytes.h"
#include "tiering/base/check.h"

namespace kvtier {

// Head of one owner's list.
struct OwnedList {
  uint32_t first = 0xffffffffu;
};

// A handle is generation and index: stale ones are recognised. No handle is zero, and none is given
// twice: an index is retired with its last generation. T needs no owner link of its own. Not
// thread-safe.
template <typename T>
class OwnedTable {
 public:
  // `generations`: uses of an index before it is retired; fewer make tests of that short.
  explicit OwnedTable(uint32_t entries_max, uint32_t generations = 0xffffffffu)
      : entries_max_(entries_max), generations_(generations) {
    KVTIER_CHECK(generations > 0);
  }

  bool full() const { return count_ >= entries_max_; }
  uint32_t size() const { return count_; }

  // Not when full().
  uint64_t Add(OwnedList& owner, T value) {
    KVTIER_CHECK(!full());
    uint32_t index = free_;
    if (index == kNone) {
      index = static_cast<uint32_t>(entries_.size());
      KVTIER_CHECK(index < kNone);
      entries_.emplace_back();
    } else {
      free_ = entries_[index].next;
    }
    Entry& entry = entries_[index];
    ++entry.generation;
    entry.live = true;
    entry.value = std::move(value);
    entry.previous = kNone;
    entry.next = owner.first;
    if (owner.first != kNone) entries_[owner.first].previous = index;
    owner.first = index;
    ++count_;
    return uint64_t{entry.generation} << 32 | index;
  }

  T* Find(uint64_t handle) {
    const auto index = static_cast<uint32_t>(handle);
    if (index >= entries_.size()) return nullptr;
    Entry& entry = entries_[index];
    return entry.live && entry.generation == handle >> 32 ? &entry.value : nullptr;
  }
  const T* Find(uint64_t handle) const { return const_cast<OwnedTable*>(this)->Find(handle); }

  // Takes the entry out; the handle must be valid and in `owner`'s list.
  T Remove(OwnedList& owner, uint64_t handle) {
    KVTIER_CHECK(Find(handle) != nullptr);
    const auto index = static_cast<uint32_t>(handle);
    Entry& entry = entries_[index];
    if (entry.previous != kNone) {
      entries_[entry.previous].next = entry.next;
    } else {
      KVTIER_CHECK(owner.first == index);
      owner.first = entry.next;
    }
    if (entry.next != kNone) entries_[entry.next].previous = entry.previous;
    entry.live = false;
    if (entry.generation < generations_) {
      entry.next = free_;
      free_ = index;
    }
    --count_;
    return std::move(entry.value);
  }

  // The handle of the owner's most recent entry; 0 when it has none.
  uint64_t FirstOf(const OwnedList& owner) const {
    return owner.first == kNone ? 0 : HandleAt(owner.first);
  }
  // For sweeps: slots 0 .. slot_count()-1; 0 where nothing lives.
  uint32_t slot_count() const { return static_cast<uint32_t>(entries_.size()); }
  uint64_t HandleAt(uint32_t slot) const {
    return entries_[slot].live ? uint64_t{entries_[slot].generation} << 32 | slot : 0;
  }

  Bytes metadata_bytes() const {
    return Bytes(static_cast<int64_t>(entries_.capacity() * sizeof(Entry)));
  }

 private:
  static constexpr uint32_t kNone = 0xffffffffu;
  struct Entry {
    T value{};
    uint32_t generation = 0;  // from 1 on once used
    uint32_t next = kNone;    // in the owner's list, or the next free entry
    uint32_t previous = kNone;
    bool live = false;
  };

  uint32_t entries_max_;
  uint32_t generations_;
  uint32_t count_ = 0;
  uint32_t free_ = kNone;
  std::vector<Entry> entries_;
};

}  // namespace kvtier
