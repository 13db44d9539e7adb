#include "tiering/bound/polish.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "tiering/bound/price_space.h"

namespace kvtier::bound {
namespace {

// How far above the best the first target is, in parts of it, and any target at most.
constexpr double kFirstReach = 0.0005;
constexpr double kReachMax = 0.1;
// A gain of so much of the reach is a reason to aim twice as far.
constexpr double kGoodGain = 0.25;
constexpr double kLeastGain = 1e-7;  // that counts as better, in parts of the bound
// Evaluations without a better bound after which the target is too far, beyond the first target's
// reach and within it.
constexpr uint32_t kPatienceFar = 6;
constexpr uint32_t kPatience = 15;
// A step that leaves the space of prices is cut there and gains less than it should by so much, or
// is made longer, so often at most.
constexpr double kCutShort = 0.05;
constexpr int kLengthenings = 3;
// Of the first curvature: with less of it, steps have long left the space of prices.
constexpr double kLeastCurvature = 1e-9;
// The weight of older limits is found to within one part in 2^kHalvings.
constexpr int kHalvings = 4;

// Nowhere below the bound: `value` at the prices that it is kept for, in seconds, and elsewhere
// what `slope` makes of it.
struct Limit {
  Evaluation slope;
  double value = 0;
};

void MoveTowards(const std::vector<double>& to, double part, std::vector<double>& from) {
  for (size_t i = 0; i < from.size(); ++i) from[i] += part * (to[i] - from[i]);
}

Limit Mixed(Limit limit, const Limit& other, double part) {
  MoveTowards(other.slope.load, part, limit.slope.load);
  MoveTowards(other.slope.occupancy, part, limit.slope.occupancy);
  limit.value += part * (other.value - limit.value);
  return limit;
}

// The nearest prices, or about, at which `limit` is the target.
struct Step {
  Prices to;
  Limit limit;
  double curvature = 0;
  double half_square = -1;  // of its length
};

class LevelSteps {
 public:
  explicit LevelSteps(const PriceSpace& space) : space_(space) {}

  // From prices whose bound and slope are `fresh`: the longest of the steps that mixes of this and
  // of the older limits ask for; each is a lower limit of the way to the target. None if no step
  // gains.
  std::optional<Prices> Next(const Prices& from, Limit fresh, double target) {
    const double first = space_.FirstCurvature(fresh.slope);
    if (curvature_ < kLeastCurvature * first) curvature_ = first;
    Step best;
    Try(from, fresh, 0, target, best);
    if (older_) {
      double weight = 0, part = 1;
      for (int i = 0; i < kHalvings; ++i) {
        part /= 2;
        const double middle = weight;
        for (const double tried : {middle - part, middle + part}) {
          if (tried > 0 && Try(from, fresh, tried, target, best)) weight = tried;
        }
      }
    }
    if (best.half_square < 0) return std::nullopt;
    curvature_ = best.curvature;
    best.limit.value += space_.Gain(best.limit.slope, from, best.to) * space_.value_unit();
    older_ = std::move(best.limit);
    return std::move(best.to);
  }

  // The next step is from `to` and not from `from`, where the last one led.
  void Return(const Prices& from, const Prices& to) {
    if (older_) older_->value += space_.Gain(older_->slope, from, to) * space_.value_unit();
  }

 private:
  // Whether it is longer than `best`, which it then is.
  bool Try(const Prices& from, const Limit& fresh, double weight, double target, Step& best) {
    Step step{{}, weight > 0 ? Mixed(fresh, *older_, weight) : fresh, curvature_};
    const double wanted = (target - step.limit.value) / space_.value_unit();
    if (!(wanted > 0)) return false;
    step.to = space_.Step(from, step.limit.slope, step.curvature, Reach::kByShare);
    for (int i = 0; i < kLengthenings; ++i) {
      const double gain = space_.Gain(step.limit.slope, from, step.to);
      if (!(gain > 0)) return false;
      if (gain > wanted * (1 - kCutShort) && gain < wanted * (1 + kCutShort)) break;
      step.curvature *= gain / wanted;
      step.to = space_.Step(from, step.limit.slope, step.curvature, Reach::kByShare);
    }
    step.half_square = space_.HalfSquare(from, step.to, Reach::kByShare);
    if (step.half_square <= best.half_square) return false;
    best = std::move(step);
    return true;
  }

  const PriceSpace& space_;
  std::optional<Limit> older_;
  double curvature_ = 0;
};

}  // namespace

Priced Polish(Evaluator& evaluator, Priced start, uint32_t iterations,
              const AscentCallback& progress) {
  const PriceSpace space(evaluator.instance());
  LevelSteps steps(space);
  struct Point {
    Priced priced;
    Evaluation slope;
  };
  Point best{std::move(start), {}};
  const auto go_on = [&](uint32_t iteration) {
    return !evaluator.stopped() &&
           (!progress || progress({iteration, iterations, best.priced.bound}));
  };
  if (iterations == 0 || !go_on(1)) return std::move(best.priced);
  evaluator.Hard(best.priced.prices, &best.slope);
  Point at = best;
  double reach = kFirstReach;
  uint32_t idle = 0;
  for (uint32_t i = 1; i < iterations && go_on(i + 1); ++i) {
    const double target = best.priced.bound * (1 + reach);
    std::optional<Prices> next = steps.Next(at.priced.prices, {at.slope, at.priced.bound}, target);
    if (!next) break;
    at.priced.prices = *std::move(next);
    at.priced.bound = evaluator.Hard(at.priced.prices, &at.slope);
    if (evaluator.stopped()) break;
    const double gain = at.priced.bound / best.priced.bound - 1;
    if (gain > 0) best = at;
    if (gain > kGoodGain * reach) reach = std::min(2 * reach, kReachMax);
    idle = gain > kLeastGain ? 0 : idle + 1;
    if (idle == (reach > kFirstReach ? kPatienceFar : kPatience)) {
      reach /= 2;
      if (reach < kLeastGain) break;
      idle = 0;
      steps.Return(at.priced.prices, best.priced.prices);
      at = best;
    }
  }
  return std::move(best.priced);
}

}  // namespace kvtier::bound
