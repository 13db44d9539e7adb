// What time it is for the accesses of one tenant, as policies see them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace kvtier {

// The owner's own time, until a session brings logical times (a trace that is played faster or
// slower than it was recorded): from then on the newest of those, until the last such session ends.
// Never goes back: a logical time is counted from where the clock stood when the first of them
// came, an older one than the newest changes nothing, and what logical time was ahead of the
// owner's stays as a lead.
class AccessClock {
 public:
  // Of the newest access.
  absl::Time newest() const { return newest_; }

  // The owner's time is `now`.
  void Observe(absl::Time now) {
    if (logical_sessions_ > 0) return;
    if (logical_ended_) lead_ = std::max(absl::ZeroDuration(), newest_ - now);
    logical_ended_ = false;
    newest_ = std::max(newest_, now + lead_);
  }

  // A session brings its first logical time. Each Join has one Leave.
  void Join(absl::Duration logical, absl::Time now) {
    Observe(now);
    if (logical_sessions_++ == 0) origin_ = newest_ - logical;
  }
  void Advance(absl::Duration logical) { newest_ = std::max(newest_, origin_ + logical); }
  void Leave() { logical_ended_ = --logical_sessions_ == 0; }

 private:
  absl::Time newest_ = absl::InfinitePast();
  absl::Time origin_;  // where logical time is zero, while there are logical sessions
  absl::Duration lead_;
  uint32_t logical_sessions_ = 0;
  bool logical_ended_ = false;  // and the owner's time was not observed since
};

}  // namespace kvtier
