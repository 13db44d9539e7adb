// Prices as points of a space in which one step length fits all of them.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "tiering/bound/evaluation.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"

namespace kvtier::bound {

// How far a step moves the shares of a phase beside each other.
enum class Reach {
  kEven,  // all as far for the same slope
  // A share of p sqrt(max(p, 0.001)) times as far. What prices a slow resource rightly beside fast
  // ones is a small share, which even steps overshoot: on requests with few blocks a polish of 600
  // evaluations came to 0.986 of the optimum, with even steps to 0.934. Smoothed ascents, which
  // have to cross whole shares, come less far with it.
  kByShare,
};

// Shares are their own coordinates; a room price is measured in what keeping a byte for a phase is
// worth if each access that it saves is worth unit(). Values are measured in the time that
// unit() gives the average block.
class PriceSpace {
 public:
  explicit PriceSpace(const Instance& instance);

  // Seconds a byte that an access of a copy in the worst place takes: to read it through the
  // slowest resource or, where the average recompute takes longer, that. Temperatures are in
  // proportion to it.
  double unit() const { return unit_; }

  // Seconds a byte for a phase: what keeping the average block is worth, if each of its accesses
  // saves unit().
  double room_unit() const { return room_unit_; }

  // Half of each phase's share to compute, if it has a floor, and the rest in proportion to rates,
  // so that all resources that are read take the same time; room is free.
  Prices Start() const;

  // point + (slope at point) / curvature, with each phase's shares brought back to the nearest that
  // sum to one and room prices to zero or above. `slope` is of Evaluator.
  Prices Step(const Prices& point, const Evaluation& slope, double curvature,
              Reach reach = Reach::kEven) const;

  // In units of the value: slope x (to - from), and half the square of their distance.
  double Gain(const Evaluation& slope, const Prices& from, const Prices& to) const;
  double HalfSquare(const Prices& from, const Prices& to, Reach reach = Reach::kEven) const;

  // A curvature with which a first step moves no share by more than about a tenth.
  double FirstCurvature(const Evaluation& slope) const;

  double value_unit() const { return value_unit_; }

 private:
  double ShareSlope(const Evaluation& slope, size_t index) const;
  double RoomSlope(const Evaluation& slope, size_t index) const;

  const Instance& instance_;
  std::vector<double>
      phase_weight_;  // how fast the slope in a phase's shares changes, 1 on average
  double unit_ = 0;
  double room_unit_ = 0;
  double value_unit_ = 0;
};

// The nearest point of which no coordinate is below zero and the sum is one, where a difference
// counts as its square divided by `reach`, of each coordinate: above zero.
void ProjectOnSimplex(absl::Span<double> point, absl::Span<const double> reach);
// With a reach of one for all.
void ProjectOnSimplex(absl::Span<double> point);

}  // namespace kvtier::bound
