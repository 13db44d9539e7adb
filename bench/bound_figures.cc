#include "bench/bound_figures.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <utility>

#include "bench/samples.h"
#include "tiering/base/executor.h"
#include "tiering/base/rng.h"
#include "tiering/bound/evaluation.h"
#include "tiering/bound/price_space.h"

namespace kvtier::bench {
namespace {

using bound::Instance;
using bound::Option;

constexpr uint64_t kBlockBytes = 1 << 20;

Option Loads(uint16_t fast, uint16_t slow) {
  Option option;
  option.per_byte[0] = fast;
  option.per_byte[1] = slow;
  return option;
}

bound::OptionTable OneCopyInTwoTiers() {
  bound::OptionTable table({1, 2}, 1);
  for (size_t accesses = 0; accesses <= 1; ++accesses) {
    const uint16_t read = accesses == 1 ? 1 : 0;
    table.Add(accesses, 0, 0, Loads(read, 0));
    table.Add(accesses, 0, 1, Loads(1, 1));  // a read shares the load of a move
    table.Add(accesses, 1, 0, Loads(1, 1));
    table.Add(accesses, 1, 1, Loads(0, read));
  }
  return table;
}

Instance MakeInstance(const BoundFigureOptions& options) {
  Instance instance;
  const uint64_t bytes = options.blocks * kBlockBytes;
  instance.tiers = {{"fast", bytes / 8}, {"slow", bytes}};
  instance.resources = {{"fast", 400'000'000'000}, {"slow", 50'000'000'000}};
  instance.tables = {OneCopyInTwoTiers()};
  instance.classes = {{.bytes = kBlockBytes, .start_states = 3}};
  instance.phase_count = options.steps;
  instance.base_load.assign(size_t{options.steps} * 2, 0);
  instance.block_class.assign(options.blocks, 0);
  instance.birth.assign(options.blocks, 0);
  instance.death.assign(options.blocks, options.steps);
  instance.first_access = {0};
  Rng rng(options.seed);
  for (uint32_t block = 0; block < options.blocks; ++block) {
    bool read = rng.OneIn(10);
    for (uint32_t step = 0; step < options.steps; ++step) {
      if (read) instance.access_phase.push_back(step);
      read = read ? !rng.OneIn(5) : rng.OneIn(45);
    }
    instance.first_access.push_back(instance.access_phase.size());
  }
  return instance;
}

bound::Prices MakePrices(const Instance& instance, Rng& rng) {
  bound::Prices prices(instance.phase_count, 2, 2);
  const double unit = bound::PriceSpace(instance).unit();
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
    prices.Share(phase)[0] = 0.2 * rng.Unit();
    prices.Share(phase)[1] = 1 - prices.Share(phase)[0];
    prices.Room(phase)[0] = 0.1 * rng.Unit() * unit;
  }
  return prices;
}

// Seconds that all accesses would take if each were served by the cheapest edge of its phase.
double LinearPass(const Instance& instance, const std::vector<double>& costs) {
  double sum = 0;
  for (const uint32_t phase : instance.access_phase) {
    const double* const cost = &costs[size_t{phase} * 4];
    sum += std::min(std::min(cost[0], cost[1]), std::min(cost[2], cost[3]));
  }
  return sum;
}

}  // namespace

absl::StatusOr<std::vector<Figure>> BoundFigures(const BoundFigureOptions& options) {
  if (options.blocks == 0 || options.steps == 0 || options.runs == 0) {
    return absl::InvalidArgumentError("blocks, steps and runs are above zero");
  }
  const Instance instance = MakeInstance(options);
  Rng rng(options.seed + 1);
  const bound::Prices prices = MakePrices(instance, rng);
  std::vector<double> costs(size_t{options.steps} * 4);
  for (double& cost : costs) cost = rng.Unit();
  InlineExecutor executor;
  bound::Evaluator evaluator(instance, executor);
  bound::Evaluation evaluation;
  const double temperature = 0.003 * bound::PriceSpace(instance).unit();
  const uint64_t accesses = std::max<uint64_t>(1, instance.access_count());

  double sink = 0;  // so that no work is left out
  const std::pair<const char*, std::function<void()>> works[] = {
      {"bound_value", [&] { sink += evaluator.Hard(prices, nullptr); }},
      {"bound_evaluation", [&] { sink += evaluator.Hard(prices, &evaluation); }},
      {"bound_smoothed", [&] { sink += evaluator.Soft(prices, temperature, &evaluation); }},
  };
  std::vector<Figure> figures;
  for (const auto& [name, work] : works) {
    work();  // touches its memory
    Samples samples;
    for (uint32_t run = 0; run < options.runs; ++run) {
      const auto start = Clock::now();
      work();
      const double ns = NsSince(start, accesses);
      const auto pass = Clock::now();
      sink += LinearPass(instance, costs);
      samples.Add(ns, NsSince(pass, accesses));
    }
    figures.push_back(samples.ToFigure(
        name,
        "ceiling: a pass over the accesses that adds the least of four costs of each one's "
        "phase; one thread, two tiers"));
  }
  if (sink == 0) return absl::InternalError("bounds that cancel out");
  return figures;
}

}  // namespace kvtier::bench
