// What a schedule really takes, in integers: the proof that a time that is called feasible is.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "tiering/base/stop_check.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/schedule.h"

namespace kvtier::bound {

struct ScheduleTime {
  uint64_t picoseconds = 0;                 // of all phases
  std::vector<uint64_t> phase_picoseconds;  // each rounded up
  std::vector<uint64_t> phase_load;   // [phase][resource], units, rounded up, at most 2^64 - 1
  std::vector<uint64_t> phase_bytes;  // [phase][tier], what lies there at the phase's start
};

// Follows every block through its life and shares no code with what made the schedule. Loads are
// exact, in units of 2^-20 of a resource's unit; a phase's time is that of its slowest resource,
// rounded up to a picosecond. A block's last state also counts as its state after the last phase.
//
// INVALID_ARGUMENT names block, phase, number and limit: a path that does not begin at birth, ends
// behind death, starts in a state that its class may not have, takes a transition without options
// or reads where no option reads; parts that name nothing, do not sum to the blocks they divide or
// compute a part of a block; more bytes in a tier at a phase's start than its capacity; more than
// 2^63 picoseconds. CANCELLED by `stop`, which is asked now and then. `instance` has passed Check.
// Reentrant.
absl::StatusOr<ScheduleTime> CheckSchedule(const Instance& instance, const Schedule& schedule,
                                           const StopCheck& stop = {});

}  // namespace kvtier::bound
