// A schedule that is being improved: blocks are taken out and put back by another path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/primal/phase_cuts.h"
#include "tiering/bound/primal/room.h"
#include "tiering/bound/schedule.h"

namespace kvtier::bound {

using Path = std::vector<StateChange>;

// Keeps each phase's time by cuts and the room in tiers; takes memory in proportion to changes and
// phases. Blocks without a path load and occupy nothing. `instance` and `cuts` stay valid and
// unchanged meanwhile. Not thread-safe.
class WorkingSchedule {
 public:
  WorkingSchedule(const Instance& instance, const PhaseCuts& cuts);

  const Instance& instance() const { return *instance_; }
  const PhaseCuts& cuts() const { return *cuts_; }
  const Room& room() const { return room_; }
  const Path& path(size_t block) const { return paths_[block]; }

  // Its path must be empty, and the new one legal; whether there is room is not asked.
  void Put(size_t block, Path path);
  Path Take(size_t block);

  // What a phase takes by each cut, and the largest of them.
  const double* PhaseCutSeconds(uint32_t phase) const { return &seconds_[phase * cuts_->size()]; }
  double PhaseSeconds(uint32_t phase) const;
  // What an edge with these seconds by cut would add to the phase's time.
  double Increase(uint32_t phase, const double* edge) const;
  double Seconds() const;

  // Without parts; every block has a path.
  Schedule ToSchedule() const;

 private:
  void Apply(size_t block, absl::Span<const StateChange> path, int sign);

  const Instance* instance_;
  const PhaseCuts* cuts_;
  Room room_;
  std::vector<double> seconds_;  // [phase][cut]
  std::vector<Path> paths_;
};

}  // namespace kvtier::bound
