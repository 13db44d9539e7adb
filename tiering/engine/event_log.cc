#include "tiering/engine/event_log.h"

#include <algorithm>

namespace kvtier {

void EventLog::Read(uint64_t after, size_t events_max, std::vector<Event>& events) const {
  for (uint64_t sequence = std::max(after + 1, first_sequence());
       sequence <= last_sequence_ && events_max > 0; ++sequence, --events_max) {
    events.push_back(ring_[sequence % ring_.size()]);
  }
}

}  // namespace kvtier
