// The seam through which time enters. The engine itself takes `now` as an argument; edges that call
// it (the daemon's tick loop, tests, the simulator) own a Clock.
#pragma once

#include "absl/time/time.h"

namespace kvtier {

// Thread-safe. Now() never goes backwards.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() = 0;
};

}  // namespace kvtier
