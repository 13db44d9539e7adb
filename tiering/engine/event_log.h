// What happened to a tenant's chunks, in order, for watchers. Bounded: old events fall out.
#pragma once

#include <cstdint>
#include <vector>

#include "proto/wire/chunk_key.h"
#include "tiering/base/ids.h"

namespace kvtier {

enum class EventKind : uint8_t { kCommitted = 1, kDropped, kForgotten, kMoved, kLost };

struct Event {
  uint64_t sequence = 0;  // 1, 2, 3, ... within the tenant
  EventKind kind = EventKind::kCommitted;
  wire::ChunkKey key;
  ModelId model;
  PlaneIndex plane;  // of kMoved and kLost
  PoolId pool;       // of kMoved: where the new copy is
  bool operator==(const Event&) const = default;
};

// Not thread-safe; one per tenant, written by the engine.
class EventLog {
 public:
  explicit EventLog(uint32_t kept_max) : ring_(kept_max) {}

  void Append(Event event) {
    event.sequence = ++last_sequence_;
    ring_[event.sequence % ring_.size()] = event;
  }
  // 0 before the first event.
  uint64_t last_sequence() const { return last_sequence_; }
  // The oldest sequence that can still be read; last_sequence() + 1 when there is none.
  uint64_t first_sequence() const {
    return last_sequence_ < ring_.size() ? 1 : last_sequence_ - ring_.size() + 1;
  }
  // Appends at most `events_max` events after `after`, from first_sequence() on if that is later.
  void Read(uint64_t after, size_t events_max, std::vector<Event>& events) const;

 private:
  std::vector<Event> ring_;
  uint64_t last_sequence_ = 0;
};

}  // namespace kvtier
