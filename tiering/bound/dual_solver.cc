#include "tiering/bound/dual_solver.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "tiering/bound/block_sample.h"
#include "tiering/bound/evaluation.h"
#include "tiering/bound/merged_phases.h"
#include "tiering/bound/polish.h"
#include "tiering/bound/price_space.h"
#include "tiering/bound/special_prices.h"
#include "tiering/bound/window.h"

namespace kvtier::bound {
namespace {

// Temperatures that ascents begin with, from nothing and from prices of a smaller problem; and the
// one that all end with.
constexpr double kCold = 0.1;
constexpr double kLifted = 0.05;
constexpr double kEnd = 0.003;
// Where smoothing at the end costs more than so much of the bound, all temperatures are lower; but
// the end's is not below kCoolest. Some 0.1 % is usual; requests that a few blocks serve, whose
// accesses are worth a recompute each or next to nothing, lost all of the bound and more.
constexpr double kSmoothing = 0.03;
constexpr double kCoolest = 0.0001;
// Of the time that is left, an ascent's at most: those on everything, and those before them.
constexpr double kLastPart = 0.95;
constexpr double kEarlierPart = 0.5;
// A small problem has few blocks to spread a tie over, and time to cool down further.
constexpr double kCoolEnd = 0.0005;
constexpr uint64_t kCooledAccesses = 20'000'000;  // of all iterations together
// A polish evaluates twice for each iteration of an ascent; the first one, on a sample, once for so
// many of them.
constexpr uint32_t kPolishing = 2;
constexpr uint32_t kIterationsPerFirstPolish = 5;
constexpr size_t kFewTiers = 2;
// Fewer merged phases than these are not worth the trouble.
constexpr uint32_t kMergedPhasesMin = 8;

// The least number of phases between two accesses of one block, which is the step if phases are
// layers.
uint32_t LeastGap(const Instance& instance) {
  uint32_t least = instance.phase_count;
  for (size_t block = 0; block < instance.block_count(); ++block) {
    const auto accesses = instance.Accesses(block);
    for (size_t i = 1; i < accesses.size(); ++i) {
      least = std::min(least, accesses[i] - accesses[i - 1]);
    }
  }
  return least;
}

uint32_t StrideOf(const Instance& instance, const DualOptions& options) {
  if (instance.access_count() * options.iterations <= options.full_accesses) return 1;
  const uint64_t wanted =
      std::clamp(std::max(options.sample_accesses,
                          uint64_t{options.sample_accesses_per_phase} * instance.phase_count),
                 uint64_t{1}, std::max(uint64_t{1}, options.sample_accesses_max));
  return static_cast<uint32_t>(std::clamp<uint64_t>(instance.access_count() / wanted, 1,
                                                    std::numeric_limits<uint32_t>::max()));
}

class Solver {
 public:
  Solver(const Instance& instance, const DualOptions& options, Executor& executor,
         const DualCallback& progress)
      : instance_(instance), options_(options), executor_(executor), progress_(progress) {
    if (instance.tiers.size() > kFewTiers) options_.iterations *= 2;
  }

  DualResult Run() {
    Evaluator evaluator(instance_, executor_);
    Take(RooflinePrices(evaluator));
    result_.roofline_seconds = result_.bound;
    const uint32_t stride = StrideOf(instance_, options_);
    stride > 1 ? SolveSampled(evaluator, SampleBlocks(instance_, stride, options_.seed))
               : SolveWhole(evaluator);
    if (result_.ended_early) return std::move(result_);
    Prices ascended = result_.prices;
    Take(Polished(evaluator, {result_.prices, result_.bound}, PolishIterations(), "polish"));
    if (stride == 1) result_.ascended = std::move(ascended);
    return std::move(result_);
  }

 private:
  void Take(Priced priced) {
    if (!result_.prices.share.empty() && priced.bound <= result_.bound) return;
    result_.prices = std::move(priced.prices);
    result_.bound = priced.bound;
  }

  void SolveWhole(Evaluator& evaluator) {
    Take(Special(evaluator));
    result_.special_seconds = result_.bound;
    if (result_.ended_early) return;
    const std::optional<Prices> start = SolvePart(instance_);
    if (start) Take({*start, evaluator.Hard(*start, nullptr)});
    if (result_.ended_early) return;
    Take(Climb(evaluator, start ? *start : PriceSpace(instance_).Start(), start ? kLifted : kCold,
               options_.iterations, "all"));
    if (result_.ended_early || instance_.access_count() * options_.iterations > kCooledAccesses) {
      return;
    }
    Take(Climb(evaluator, Prices(result_.prices), kEnd, options_.iterations, "cool", kCoolEnd));
  }

  void SolveSampled(Evaluator& evaluator, const BlockSample& sample) {
    const auto take = [&](const Prices& of_sample) {
      Prices prices = LiftFromSample(of_sample, sample.share);
      const double bound = evaluator.Hard(prices, nullptr);
      Take({std::move(prices), bound});
    };
    Evaluator of_sample(sample.instance, executor_);
    Priced found = Special(of_sample);
    take(found.prices);
    result_.special_seconds = result_.bound;
    if (result_.ended_early) return;
    take(Polished(of_sample, std::move(found), options_.iterations / kIterationsPerFirstPolish,
                  "sample")
             .prices);
    if (result_.ended_early) return;
    const std::optional<Prices> of_part = SolvePart(sample.instance);
    take(of_part ? *of_part
                 : Climb(of_sample, PriceSpace(sample.instance).Start(), kCold, options_.iterations,
                         "sample")
                       .prices);
  }

  Priced Special(Evaluator& evaluator) {
    Priced found =
        BestSpecialPrices(evaluator, [this] { return Report("special", 0, 1, result_.bound); });
    if (!result_.ended_early && Report("special", 1, 1, Bound(evaluator, found.bound)))
      FixTemperatures(evaluator, found);
    return found;
  }

  void FixTemperatures(Evaluator& evaluator, const Priced& at) {
    const double end = kEnd * PriceSpace(evaluator.instance()).unit();
    cooler_ = 1;
    while (!evaluator.stopped() && cooler_ * kEnd >= 2 * kCoolest &&
           evaluator.Soft(at.prices, cooler_ * end, nullptr) < at.bound * (1 - kSmoothing)) {
      cooler_ /= 2;
    }
  }

  // Of everything, where so much was found with an evaluator, which may be a part's.
  double Bound(const Evaluator& evaluator, double bound) const {
    return &evaluator.instance() == &instance_ ? std::max(result_.bound, bound) : result_.bound;
  }

  bool Report(std::string_view stage, uint32_t iteration, uint32_t iterations, double bound) {
    if (!executor_.stopped() && (!progress_ || progress_({stage, iteration, iterations, bound})))
      return true;
    result_.ended_early = true;
    return false;
  }

  uint32_t PolishIterations() const {
    const uint64_t affordable =
        options_.polish_accesses / std::max<uint64_t>(1, instance_.access_count());
    const uint32_t most = kPolishing * options_.iterations;
    return static_cast<uint32_t>(
        std::clamp<uint64_t>(affordable, std::min(options_.polish_iterations_min, most), most));
  }

  Priced Climb(Evaluator& evaluator, const Prices& start, double first_temperature,
               uint32_t iterations, std::string_view stage, double last_temperature = kEnd) {
    AscentOptions options = {.iterations = iterations,
                             .first_temperature = cooler_ * first_temperature,
                             .last_temperature = cooler_ * last_temperature};
    if (options_.spent && stage != "window") {
      const double from = options_.spent();
      const double length =
          (stage == "all" || stage == "cool" ? kLastPart : kEarlierPart) * (1 - from);
      options.spent = [this, from, length] {
        return length > 0 ? (options_.spent() - from) / length : 1.0;
      };
    }
    return Ascend(evaluator, start, options, [&](const AscentProgress& at) {
      return Report(stage, at.iteration, at.iterations, Bound(evaluator, at.bound));
    });
  }

  Priced Polished(Evaluator& evaluator, Priced start, uint32_t iterations, std::string_view stage) {
    return Polish(evaluator, std::move(start), iterations, [&](const AscentProgress& at) {
      return Report(stage, at.iteration, at.iterations, Bound(evaluator, at.bound));
    });
  }

  bool FewAccesses(const Instance& sample) const {
    return sample.access_count() <
           uint64_t{options_.sample_accesses_per_phase} / 2 * sample.phase_count;
  }

  // With phases merged, by windows, or both; none if neither applies.
  std::optional<Prices> SolvePart(const Instance& part) {
    std::optional<Prices> found = SolveMerged(part);
    const uint32_t length = options_.window_phases;
    const bool sampled = &part != &instance_;
    if (result_.ended_early || (!found && length == 0)) return found;
    if (length > 0 && length < part.phase_count) return SolveWindows(part, found);
    if (!found || !sampled || FewAccesses(part)) return found;
    Evaluator evaluator(part, executor_);
    return Climb(evaluator, *found, kLifted, options_.iterations, "sample").prices;
  }

  std::optional<Prices> SolveMerged(const Instance& part) {
    const uint32_t gap = LeastGap(part);
    if (gap <= 1 || part.phase_count / gap < kMergedPhasesMin) return std::nullopt;
    const auto merged = MergePhases(part, gap, 1);
    // Blocks may have no way through all of a run's phases though they have one through their own.
    if (!merged.ok() || !Check(*merged).ok()) return std::nullopt;
    Evaluator evaluator(*merged, executor_);
    const Priced found =
        Climb(evaluator, PriceSpace(*merged).Start(), kCold, options_.iterations, "merged");
    return LiftFromMerged(found.prices, gap, part.phase_count);
  }

  Prices SolveWindows(const Instance& part, const std::optional<Prices>& start) {
    Prices found = start ? *start : PriceSpace(part).Start();
    for (uint32_t first = 0; first < part.phase_count && !result_.ended_early;
         first += options_.window_phases) {
      const uint32_t end = part.phase_count - first < options_.window_phases
                               ? part.phase_count
                               : first + options_.window_phases;
      const Instance window = Window(part, first, end);
      Evaluator evaluator(window, executor_);
      const Prices from = PricesOf(found, first, end);
      CopyPrices(
          Climb(evaluator, from, start ? kLifted : kCold, options_.iterations, "window").prices,
          first, found);
    }
    return found;
  }

  const Instance& instance_;
  DualOptions options_;
  Executor& executor_;
  const DualCallback& progress_;
  double cooler_ = 1;  // what temperatures are multiplied with
  DualResult result_;
};

}  // namespace

DualResult SolveDual(const Instance& instance, const DualOptions& options, Executor& executor,
                     const DualCallback& progress) {
  return Solver(instance, options, executor, progress).Run();
}

}  // namespace kvtier::bound
