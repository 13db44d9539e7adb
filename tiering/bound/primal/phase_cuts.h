// Phase times in a form that a block can be added to and taken out of in a few additions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "tiering/bound/instance.h"

namespace kvtier::bound {

// With shares p of its resources that sum to 1, a phase cannot end before the sum of base loads and
// of each block's cheapest option at p; and its time, work divided best, is the largest of these
// sums over all p (minimax). Only finitely many p matter, few in practice: those of single
// resources, for a start, and those at which options tie, which solving real phases finds
// (phase_split.h). A cut is one such p. Times by too few cuts are too low, never too high.
//
// Immutable but for Add; then safe to read from any thread.
class PhaseCuts {
 public:
  // One cut for each resource that is not always faster than another.
  explicit PhaseCuts(const Instance& instance);

  // False if a cut that is nearly the same is there already, or kCutsMax are.
  bool Add(absl::Span<const double> shares);

  size_t size() const { return cuts_; }

  // Seconds by cut of a whole block's edge, or nullptr if no option makes it.
  const double* Edge(uint32_t block_class, size_t accesses, StateIndex from, StateIndex to) const {
    const size_t edge = first_edge_[block_class] +
                        (accesses * states_[block_class] + from) * states_[block_class] + to;
    return legal_[edge] ? &seconds_[edge * cuts_] : nullptr;
  }
  // Seconds by cut of a phase's base load.
  void Base(uint32_t phase, double* seconds) const;

  static constexpr size_t kCutsMax = 24;

 private:
  void Fill();
  bool Dominated(size_t cut, size_t by) const;

  const Instance* instance_;
  std::vector<double> shares_;  // [cut][resource]
  size_t cuts_ = 0;
  std::vector<uint32_t> states_;    // by class
  std::vector<size_t> first_edge_;  // by class
  std::vector<uint8_t> legal_;      // by edge
  std::vector<double> seconds_;     // [edge][cut]
};

}  // namespace kvtier::bound
