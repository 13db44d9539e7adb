#include "tiering/bound/primal/working_schedule.h"

#include <algorithm>
#include <utility>

#include "tiering/base/check.h"
#include "tiering/bound/primal/path_edges.h"

namespace kvtier::bound {

WorkingSchedule::WorkingSchedule(const Instance& instance, const PhaseCuts& cuts)
    : instance_(&instance),
      cuts_(&cuts),
      room_(instance),
      seconds_(instance.phase_count * cuts.size()),
      paths_(instance.block_count()) {
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
    cuts.Base(phase, &seconds_[phase * cuts.size()]);
  }
}

void WorkingSchedule::Apply(size_t block, absl::Span<const StateChange> path, int sign) {
  const uint32_t block_class = instance_->block_class[block];
  const size_t cuts = cuts_->size();
  ForEachEdge(*instance_, block, path,
              [&](uint32_t phase, uint32_t accesses, StateIndex from, StateIndex to) {
                const double* const edge = cuts_->Edge(block_class, accesses, from, to);
                KVTIER_CHECK(edge != nullptr);
                double* const seconds = &seconds_[phase * cuts];
                for (size_t v = 0; v < cuts; ++v) seconds[v] += sign * edge[v];
              });
  const int64_t bytes = static_cast<int64_t>(instance_->classes[block_class].bytes);
  const std::vector<TierSet>& states = instance_->TableOf(block).states();
  for (size_t j = 0; j < instance_->tiers.size(); ++j) {
    if (!room_.limited(j)) continue;
    // Runs of states that keep a copy there.
    for (size_t i = 0; i < path.size();) {
      if (((states[path[i].state] >> j) & 1) == 0) {
        ++i;
        continue;
      }
      const uint32_t begin = path[i].phase;
      while (i < path.size() && ((states[path[i].state] >> j) & 1) != 0) ++i;
      room_.Add(j, begin, i < path.size() ? path[i].phase : instance_->death[block], -sign * bytes);
    }
  }
}

void WorkingSchedule::Put(size_t block, Path path) {
  KVTIER_CHECK(paths_[block].empty() && !path.empty());
  Apply(block, path, 1);
  paths_[block] = std::move(path);
}

Path WorkingSchedule::Take(size_t block) {
  KVTIER_CHECK(!paths_[block].empty());
  Apply(block, paths_[block], -1);
  return std::exchange(paths_[block], {});
}

double WorkingSchedule::PhaseSeconds(uint32_t phase) const {
  const double* const seconds = PhaseCutSeconds(phase);
  return *std::max_element(seconds, seconds + cuts_->size());
}

double WorkingSchedule::Increase(uint32_t phase, const double* edge) const {
  const double* const seconds = PhaseCutSeconds(phase);
  double without = seconds[0];
  double with = seconds[0] + edge[0];
  for (size_t v = 1; v < cuts_->size(); ++v) {
    without = std::max(without, seconds[v]);
    with = std::max(with, seconds[v] + edge[v]);
  }
  return with - without;
}

double WorkingSchedule::Seconds() const {
  double sum = 0;
  for (uint32_t phase = 0; phase < instance_->phase_count; ++phase) sum += PhaseSeconds(phase);
  return sum;
}

Schedule WorkingSchedule::ToSchedule() const {
  Schedule schedule;
  schedule.first_change.reserve(paths_.size() + 1);
  schedule.first_change.push_back(0);
  for (const Path& path : paths_) {
    KVTIER_CHECK(!path.empty());
    schedule.changes.insert(schedule.changes.end(), path.begin(), path.end());
    schedule.first_change.push_back(schedule.changes.size());
  }
  return schedule;
}

}  // namespace kvtier::bound
