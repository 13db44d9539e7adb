#include "tiering/bound/polish.h"

#include <optional>
#include <utility>

#include "tiering/bound/price_space.h"

namespace kvtier::bound {
namespace {

// How far above the best the first target is, in parts of it. With four times as much the first
// fifty steps gained nothing on one of two problems that it was tried on, and no more in the end.
constexpr double kReach = 0.0005;
// Evaluations without a better bound after which the target is too far.
constexpr uint32_t kPatience = 15;
constexpr double kLeastGain = 1e-7;  // that counts as better, in parts of the bound
// A step that leaves the space of prices is cut there and gains less: so often it is made longer.
constexpr int kLengthenings = 3;

struct Point {
  Priced priced;
  Evaluation slope;
};

// The step from `at` with which a bound that changes as `slope` says would gain so much, or about,
// in units of the value; none if no step gains. `curvature` is where to begin, and where it ended.
std::optional<Prices> StepThatGains(const PriceSpace& space, const Point& at, double wanted,
                                    double& curvature) {
  Prices next = space.Step(at.priced.prices, at.slope, curvature);
  for (int i = 0; i < kLengthenings; ++i) {
    const double gain = space.Gain(at.slope, at.priced.prices, next);
    if (!(gain > 0)) return std::nullopt;
    curvature *= gain / wanted;
    next = space.Step(at.priced.prices, at.slope, curvature);
  }
  return next;
}

}  // namespace

Priced Polish(Evaluator& evaluator, Priced start, uint32_t iterations,
              const AscentCallback& progress) {
  const PriceSpace space(evaluator.instance());
  Point best{std::move(start), {}};
  const auto go_on = [&](uint32_t iteration) {
    return !progress || progress({iteration, iterations, best.priced.bound});
  };
  if (iterations == 0 || !go_on(1)) return std::move(best.priced);
  evaluator.Hard(best.priced.prices, &best.slope);
  Point at = best;
  double curvature = space.FirstCurvature(at.slope);
  double reach = kReach;
  uint32_t idle = 0;
  for (uint32_t i = 1; i < iterations && go_on(i + 1); ++i) {
    const double wanted = (best.priced.bound * (1 + reach) - at.priced.bound) / space.value_unit();
    if (!(wanted > 0)) break;
    std::optional<Prices> next = StepThatGains(space, at, wanted, curvature);
    if (!next) break;
    at.priced.prices = *std::move(next);
    at.priced.bound = evaluator.Hard(at.priced.prices, &at.slope);
    idle = at.priced.bound > best.priced.bound * (1 + kLeastGain) ? 0 : idle + 1;
    if (at.priced.bound > best.priced.bound) best = at;
    if (idle == kPatience) {
      reach /= 2;
      if (reach < kLeastGain) break;
      idle = 0;
      at = best;
    }
  }
  return std::move(best.priced);
}

}  // namespace kvtier::bound
