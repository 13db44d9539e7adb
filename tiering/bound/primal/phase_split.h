// How work that can be done in several ways is divided so that a phase ends soonest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace kvtier::bound {

// Work that must be done whole, by any mix of its options.
struct SplitGroup {
  size_t options = 0;    // 1 or more
  size_t first_row = 0;  // its options' times are rows [first_row, first_row + options)
};

// The least time of a phase: min over mixes of max over resources. Solved exactly, as a matrix game
// by column generation: the prices of the resources in the best mix of what was tried so far choose
// each group's cheapest option, and that choice is tried next; a choice that is no cheaper than the
// mix proves it best. Buffers are kept from call to call. Not thread-safe.
class PhaseSplit {
 public:
  explicit PhaseSplit(size_t resources) : resources_(resources), fixed_(resources) {}

  // Starts a phase; `fixed` is how long each resource is busy whatever is chosen, seconds.
  void Begin(absl::Span<const double> fixed);
  // Adds an option of the last group: how long each resource is busy if all of it takes this one.
  void AddGroup() { groups_.push_back({0, rows_.size() / resources_}); }
  void AddOption(absl::Span<const double> seconds);

  // Returns the phase's time in seconds, within a relative 1e-10.
  double Solve();

  // Of the last Solve. Part of a group's work by option, summing to 1; and what a second of each
  // resource is worth, summing to 1: with these prices nothing is faster than the time returned.
  absl::Span<const double> parts(size_t group) const {
    return absl::MakeConstSpan(parts_).subspan(groups_[group].first_row, groups_[group].options);
  }
  absl::Span<const double> shares() const { return shares_; }

 private:
  double Cost(size_t row) const;
  void Respond();
  void AddColumn();
  void Optimise();
  void Pivot(size_t row, size_t column);

  const size_t resources_;
  std::vector<double> fixed_;
  std::vector<SplitGroup> groups_;
  std::vector<double> rows_;  // [option][resource]

  std::vector<uint16_t> choice_;   // by group, the one being tried
  std::vector<uint16_t> choices_;  // [column][group], those in the game
  std::vector<double> column_;     // by resource, of choice_
  // Simplex tableau of: most sum of weights so that no resource is busy longer than 1; columns are
  // the resources' slacks, then the choices. Times are shifted and scaled to [1, 2].
  double scale_ = 1;
  size_t columns_ = 0;
  std::vector<std::vector<double>> tableau_;  // by row: resources, then the objective
  std::vector<double> right_;
  std::vector<size_t> basis_;
  std::vector<double> parts_;
  std::vector<double> shares_;
};

}  // namespace kvtier::bound
