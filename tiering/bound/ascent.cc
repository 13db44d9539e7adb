#include "tiering/bound/ascent.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace kvtier::bound {
namespace {

// Curvature grows by `kSteeper` when a step promised more than it gave, and falls a little with
// each, as it differs from place to place.
constexpr double kSteeper = 2;
constexpr double kFlatter = 0.9;
constexpr int kTriesMax = 40;
// Of the time, the part that may pass before an ascent that is behind hurries: where there is time
// to spare, a machine's hiccups change nothing.
constexpr double kPatience = 0.05;

// from + factor x (to - from), which may leave the space of prices: shares below zero.
Prices Beyond(const Prices& from, const Prices& to, double factor) {
  Prices point = to;
  for (size_t i = 0; i < point.share.size(); ++i) {
    point.share[i] = from.share[i] + factor * (to.share[i] - from.share[i]);
  }
  for (size_t i = 0; i < point.room.size(); ++i) {
    point.room[i] = std::max(0.0, from.room[i] + factor * (to.room[i] - from.room[i]));
  }
  for (uint32_t phase = 0; phase < point.phase_count; ++phase) {
    ProjectOnSimplex(point.Share(phase));
  }
  return point;
}

class Ascent {
 public:
  Ascent(Evaluator& evaluator, const Prices& start, const AscentOptions& options)
      : evaluator_(evaluator),
        space_(evaluator.instance()),
        options_(options),
        current_(start),
        ahead_(start) {
    Offer(start);
  }

  Priced Run(const AscentCallback& progress) {
    for (uint32_t i = 0; i < options_.iterations; ++i) {
      const auto go_on = [&] {
        return !evaluator_.stopped() &&
               (!progress || progress({i + 1, options_.iterations, best_.bound}));
      };
      const bool ended = !Iterate(i, go_on);
      const bool last = i + 1 == options_.iterations;
      const bool cold = options_.spent && options_.spent() >= 1;
      if (ended ? i > 0 : last || cold || (i + 1) % options_.hard_every == 0) Offer(current_);
      if (ended || cold || !go_on()) break;
    }
    return std::move(best_);
  }

 private:
  void Offer(const Prices& prices) {
    const double bound = evaluator_.Hard(prices, nullptr);
    if (!best_.prices.share.empty() && bound <= best_.bound) return;
    best_.prices = prices;
    best_.bound = bound;
  }

  double TemperatureOf(uint32_t iteration) {
    double part =
        options_.iterations > 1 ? static_cast<double>(iteration) / (options_.iterations - 1) : 1.0;
    if (options_.spent) part = Hurried(part);
    return space_.unit() * options_.first_temperature *
           std::pow(options_.last_temperature / options_.first_temperature, part);
  }

  // Of the way down, the part that the time wants, at least `part`: by the end of this iteration,
  // if it takes as long as the one before.
  double Hurried(double part) {
    const double now = options_.spent();
    const double spent = std::clamp(now + (now - spent_before_), 0.0, 1.0);
    spent_before_ = now;
    return spent < kPatience ? part : std::max(part, spent);
  }

  // False if `go_on`, asked between evaluations, ended it on the way; so it does where one of them
  // was stopped, and nothing is made of that.
  template <typename GoOn>
  bool Iterate(uint32_t iteration, const GoOn& go_on) {
    const double temperature = TemperatureOf(iteration);
    const double value = evaluator_.Soft(ahead_, temperature, &slope_) / space_.value_unit();
    if (iteration == 0) {
      curvature_ = space_.FirstCurvature(slope_);
    } else {
      curvature_ *= kFlatter * last_temperature_ / temperature;
    }
    last_temperature_ = temperature;
    Prices next;
    for (int tries = 0; tries < kTriesMax; ++tries, curvature_ *= kSteeper) {
      if (!go_on()) return false;
      next = space_.Step(ahead_, slope_, curvature_);
      const double reached = evaluator_.Soft(next, temperature, nullptr) / space_.value_unit();
      if (evaluator_.stopped()) return false;
      const double promised =
          value + space_.Gain(slope_, ahead_, next) - curvature_ * space_.HalfSquare(ahead_, next);
      if (reached >= promised - 1e-12 * std::abs(promised)) break;
    }
    if (space_.Gain(slope_, current_, next) < 0) momentum_ = 1;  // going back on its way
    const double grown = (1 + std::sqrt(1 + 4 * momentum_ * momentum_)) / 2;
    ahead_ = Beyond(current_, next, 1 + (momentum_ - 1) / grown);
    momentum_ = grown;
    current_ = std::move(next);
    return true;
  }

  Evaluator& evaluator_;
  const PriceSpace space_;
  const AscentOptions options_;
  Prices current_;
  Prices ahead_;
  Evaluation slope_;
  Priced best_;
  double spent_before_ = 0;
  double curvature_ = 0;
  double last_temperature_ = 0;
  double momentum_ = 1;
};

}  // namespace

Priced Ascend(Evaluator& evaluator, const Prices& start, const AscentOptions& options,
              const AscentCallback& progress) {
  return Ascent(evaluator, start, options).Run(progress);
}

}  // namespace kvtier::bound
