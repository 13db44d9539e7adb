// The search's parts against slow and plain ways to find the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "tests/support/bound/random_instance.h"
#include "tests/support/bound/random_prices.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/bound/primal/exchange_search.h"
#include "tiering/bound/primal/local_search.h"
#include "tiering/bound/primal/option_split.h"
#include "tiering/bound/primal/path_sampler.h"
#include "tiering/bound/primal/phase_readers.h"
#include "tiering/bound/primal/room.h"
#include "tiering/bound/primal/room_repair.h"
#include "tiering/bound/primal/router.h"
#include "tiering/bound/primal/schedule_checker.h"

namespace kvtier::bound {
namespace {

using ::kvtier::test_support::IsOk;

bool Always() { return true; }

TEST(RoomTest, AnswersAsAPlainArrayDoes) {
  Rng rng(test_support::TestSeed(3));
  for (int round = 0; round < 30; ++round) {
    Instance instance;
    instance.phase_count = static_cast<uint32_t>(1 + rng.Below(400));
    instance.tiers = {{"a", 50}, {"b", 50}};
    instance.tables = {OptionTable({1}, 0)};
    instance.classes = {{100, 0, 0, 1}};
    instance.block_class = {0};
    Room room(instance);
    std::vector<std::vector<int64_t>> plain(2, std::vector<int64_t>(instance.phase_count, 50));
    for (int step = 0; step < 300; ++step) {
      const size_t tier = rng.Below(2);
      uint32_t begin = static_cast<uint32_t>(rng.Below(instance.phase_count + 1));
      uint32_t end = static_cast<uint32_t>(rng.Below(instance.phase_count + 1));
      if (begin > end) std::swap(begin, end);
      const auto bytes = static_cast<int64_t>(rng.Below(60)) - 30;
      if (rng.OneIn(2)) {
        room.Add(tier, begin, end, bytes);
        for (uint32_t p = begin; p < end; ++p) plain[tier][p] += bytes;
        continue;
      }
      uint32_t first = Room::kNone, last = Room::kNone;
      for (uint32_t p = begin; p < end; ++p) {
        EXPECT_EQ(room.Free(tier, p), plain[tier][p]);
        if (plain[tier][p] >= bytes) continue;
        if (first == Room::kNone) first = p;
        last = p;
      }
      EXPECT_EQ(room.FirstBelow(tier, begin, end, bytes), first);
      EXPECT_EQ(room.LastBelow(tier, begin, end, bytes), last);
    }
  }
}

// Any legal path of the block, each state chosen at random among those from which the rest can be
// lived.
Path RandomPath(const Instance& instance, size_t block, Rng& rng) {
  const OptionTable& table = instance.TableOf(block);
  const uint32_t birth = instance.birth[block], death = instance.death[block];
  const absl::Span<const uint32_t> accesses = instance.Accesses(block);
  const auto count = [&](uint32_t phase) {
    return static_cast<size_t>(std::count(accesses.begin(), accesses.end(), phase));
  };
  std::vector<std::vector<bool>> lives(death - birth, std::vector<bool>(table.state_count()));
  for (uint32_t phase = death; phase-- > birth;) {
    for (StateIndex k = 0; k < table.state_count(); ++k) {
      for (StateIndex to = 0; to < table.state_count(); ++to) {
        const bool ahead = phase + 1 == death ? to == k : lives[phase + 1 - birth][to];
        if (ahead && !table.Options(count(phase), k, to).empty()) lives[phase - birth][k] = true;
      }
    }
  }
  Path path;
  StateIndex state = 0;
  for (uint32_t phase = birth; phase < death; ++phase) {
    std::vector<StateIndex> possible;
    for (StateIndex k = 0; k < table.state_count(); ++k) {
      const bool reached = phase == birth ? ((instance.ClassOf(block).start_states >> k) & 1) != 0
                                          : !table.Options(count(phase - 1), state, k).empty();
      if (reached && lives[phase - birth][k]) possible.push_back(k);
    }
    const StateIndex next = possible[rng.Below(possible.size())];
    if (path.empty() || next != state) path.push_back({phase, next});
    state = next;
  }
  return path;
}

TEST(WorkingScheduleTest, TimesAreThoseOfTheCheckerAndOfTheDivision) {
  Rng rng(test_support::TestSeed(4));
  for (int round = 0; round < 200; ++round) {
    const auto model = test_support::kBoundModels[rng.Below(test_support::kBoundModels.size())];
    const Instance instance = test_support::RandomInstance(model, {6, 8, 2}, rng);
    PhaseCuts cuts(instance);
    std::vector<Path> paths;
    for (size_t block = 0; block < instance.block_count(); ++block) {
      paths.push_back(RandomPath(instance, block, rng));
    }
    Schedule schedule;
    schedule.first_change = {0};
    for (const Path& path : paths) {
      schedule.changes.insert(schedule.changes.end(), path.begin(), path.end());
      schedule.first_change.push_back(schedule.changes.size());
    }
    InlineExecutor executor;
    const SplitResult split = SplitOptions(instance, schedule, executor);
    const size_t resources = instance.resources.size();
    for (size_t phase = 0; phase < instance.phase_count; ++phase) {
      (void)cuts.Add(absl::MakeConstSpan(split.shares).subspan(phase * resources, resources));
    }
    WorkingSchedule working(instance, cuts);
    for (size_t block = 0; block < paths.size(); ++block) working.Put(block, paths[block]);
    // Each phase's own prices are among the cuts.
    if (cuts.size() < PhaseCuts::kCutsMax) {
      EXPECT_NEAR(working.Seconds(), split.divided_seconds, 1e-3 * split.divided_seconds + 1e-12);
    }
    EXPECT_LE(working.Seconds(), split.divided_seconds * (1 + 1e-9) + 1e-12);
    EXPECT_LE(split.divided_seconds, split.seconds * (1 + 1e-9));
    Instance roomy = instance;
    for (Tier& tier : roomy.tiers) tier.capacity_bytes = kUnitsMax;
    ASSERT_OK_AND_ASSIGN(const ScheduleTime time, CheckSchedule(roomy, schedule));
    const double seconds = static_cast<double>(time.picoseconds) * 1e-12;
    EXPECT_NEAR(seconds, split.seconds, 1e-5 * split.seconds + 1e-12 * instance.phase_count);
    EXPECT_EQ(working.ToSchedule().changes, schedule.changes);
    // Taken out again, nothing is left.
    for (size_t block = 0; block < paths.size(); ++block) {
      EXPECT_EQ(working.Take(block), paths[block]);
    }
    const WorkingSchedule empty(instance, cuts);
    EXPECT_NEAR(working.Seconds(), empty.Seconds(), 1e-9 * split.seconds);
  }
}

// The least cost of any path with room, by a step through every phase.
double LeastCost(const WorkingSchedule& schedule, const PathPrices& prices, PriceWeights weights,
                 size_t block) {
  const Instance& instance = schedule.instance();
  const OptionTable& table = instance.TableOf(block);
  const uint32_t block_class = instance.block_class[block];
  const absl::Span<const uint32_t> accesses = instance.Accesses(block);
  const auto bytes = static_cast<double>(instance.ClassOf(block).bytes);
  std::vector<double> costs(table.state_count(), std::numeric_limits<double>::infinity());
  for (StateIndex k = 0; k < table.state_count(); ++k) {
    if (((instance.ClassOf(block).start_states >> k) & 1) != 0) costs[k] = 0;
  }
  for (uint32_t phase = instance.birth[block]; phase < instance.death[block]; ++phase) {
    std::vector<double> next(costs.size(), std::numeric_limits<double>::infinity());
    const auto count = static_cast<size_t>(std::count(accesses.begin(), accesses.end(), phase));
    for (StateIndex from = 0; from < table.state_count(); ++from) {
      bool fits = true;
      for (size_t j = 0; j < instance.tiers.size(); ++j) {
        fits = fits && (((table.states()[from] >> j) & 1) == 0 ||
                        schedule.room().Free(j, phase) >= static_cast<int64_t>(bytes));
      }
      if (!fits) continue;
      for (StateIndex to = 0; to < table.state_count(); ++to) {
        const double* const edge = schedule.cuts().Edge(block_class, count, from, to);
        if (edge == nullptr || (phase + 1 == instance.death[block] && to != from)) continue;
        next[to] = std::min(
            next[to], costs[from] + schedule.Increase(phase, edge) +
                          weights.edges * prices.Edge(block_class, phase, count, from, to) +
                          weights.room * bytes *
                              prices.Stay(instance.ClassOf(block).table, from, phase, phase + 1));
      }
    }
    costs = next;
  }
  return *std::min_element(costs.begin(), costs.end());
}

TEST(RouterTest, FindsWhatAStepThroughEveryPhaseFinds) {
  Rng rng(test_support::TestSeed(5));
  std::map<std::string, std::pair<int, int>> found;  // as cheap, and all
  for (int round = 0; round < 600; ++round) {
    const auto model = test_support::kBoundModels[rng.Below(test_support::kBoundModels.size())];
    const Instance instance = test_support::RandomInstance(model, {8, 12, 1}, rng);
    const Prices random = test_support::RandomPrices(instance, rng);
    const PathPrices prices(instance, random);
    const PhaseCuts cuts(instance);
    WorkingSchedule schedule(instance, cuts);
    for (size_t block = 0; block < instance.block_count(); ++block) {
      schedule.Put(block, RandomPath(instance, block, rng));
    }
    const PriceWeights weights = {rng.OneIn(2) ? 0.02 : 0.5, rng.OneIn(2) ? 0.02 : 1};
    for (size_t block = 0; block < instance.block_count(); ++block) {
      const Path old = schedule.Take(block);
      const MoveCosts moves(schedule, prices, weights);
      Router router(schedule, prices, moves, weights);
      Path path;
      const double cost = router.Route(block, old, path);
      const double least = LeastCost(schedule, prices, weights, block);
      auto& [equal, all] = found[NameOf(model)];
      ++all;
      if (cost == Router::kInfinite) {
        equal += least == cost ? 1 : 0;
        schedule.Put(block, old);
        continue;
      }
      EXPECT_NEAR(router.Cost(block, path), cost, 1e-9 * cost + 1e-15);
      EXPECT_GE(cost, least * (1 - 1e-9) - 1e-15);
      if (cost <= least * (1 + 1e-9) + 1e-15) ++equal;
      schedule.Put(block, path);
    }
  }
  for (const auto& [name, counts] : found) {
    std::cout << name << ": " << counts.first << " of " << counts.second << " as cheap\n";
    EXPECT_GE(counts.first, counts.second * 95 / 100) << name;
  }
}

// A path by its states at phase starts.
struct Way {
  std::vector<StateIndex> states;
  double cost = 0;  // per byte
  int moves = 0;    // without access
};

TEST(PathSamplerTest, PathsAreAsFrequentAsTheirWeights) {
  Rng rng(test_support::TestSeed(6));
  for (int round = 0; round < 20; ++round) {
    const auto model = test_support::kBoundModels[round % test_support::kBoundModels.size()];
    const Instance instance = test_support::RandomInstance(model, {3, 6, 2}, rng);
    const Prices random = test_support::RandomPrices(instance, rng);
    const PathPrices prices(instance, random);
    const size_t block = rng.Below(instance.block_count());
    const OptionTable& table = instance.TableOf(block);
    const auto bytes = static_cast<double>(instance.ClassOf(block).bytes);
    const absl::Span<const uint32_t> accesses = instance.Accesses(block);
    // All paths and what they cost per byte.
    std::vector<Way> paths;
    for (StateIndex k = 0; k < table.state_count(); ++k) {
      if (((instance.ClassOf(block).start_states >> k) & 1) != 0) paths.push_back({{k}, 0, 0});
    }
    double typical = 0;
    for (uint32_t phase = instance.birth[block]; phase < instance.death[block]; ++phase) {
      const auto count = static_cast<size_t>(std::count(accesses.begin(), accesses.end(), phase));
      std::vector<Way> longer;
      for (const auto& [states, cost, moves] : paths) {
        const StateIndex from = states.back();
        for (StateIndex to = 0; to < table.state_count(); ++to) {
          if (table.Options(count, from, to).empty()) continue;
          if (phase + 1 == instance.death[block] && to != from) continue;
          longer.push_back({states, cost, moves});
          longer.back().states.push_back(to);
          longer.back().cost +=
              prices.Stay(instance.ClassOf(block).table, from, phase, phase + 1) +
              prices.Edge(instance.block_class[block], phase, count, from, to) / bytes;
          if (count == 0 && from != to) ++longer.back().moves;
          typical = std::max(typical, longer.back().cost);
        }
      }
      paths = std::move(longer);
    }
    const double temperature = typical > 0 ? typical / 4 : 1;
    double sum = 0;
    const double move_weight = rng.OneIn(2) ? 1 : 0.1;
    const auto weight = [temperature, move_weight](const Way& way) {
      return std::exp(-way.cost / temperature) * std::pow(move_weight, way.moves);
    };
    for (const Way& way : paths) sum += weight(way);
    const PathSampler sampler(instance, prices, temperature, move_weight);
    PathSampler::Buffers buffers;
    std::map<std::vector<StateIndex>, int> drawn;
    constexpr int kDraws = 20000;
    Path path;
    for (int draw = 0; draw < kDraws; ++draw) {
      ASSERT_TRUE(sampler.Draw(block, rng, buffers, path));
      std::vector<StateIndex> states;
      size_t at = 0;
      for (uint32_t phase = instance.birth[block]; phase <= instance.death[block]; ++phase) {
        while (at + 1 < path.size() && path[at + 1].phase <= phase) ++at;
        states.push_back(path[at].state);
      }
      ++drawn[states];
    }
    int seen = 0;
    for (const Way& way : paths) {
      const double expected = kDraws * weight(way) / sum;
      const int times = drawn[way.states];
      seen += times;
      // Five standard deviations.
      EXPECT_NEAR(times, expected, 5 * std::sqrt(expected) + 5)
          << NameOf(model) << " round " << round;
    }
    EXPECT_EQ(seen, kDraws);  // nothing illegal
  }
}

TEST(RoomRepairTest, WhatIsRepairedIsFeasible) {
  Rng rng(test_support::TestSeed(7));
  int repaired = 0;
  constexpr int kRounds = 300;
  for (int round = 0; round < kRounds; ++round) {
    const auto model = test_support::kBoundModels[rng.Below(test_support::kBoundModels.size())];
    const Instance instance = test_support::RandomInstance(model, {8, 12, 1}, rng);
    const Prices random = test_support::RandomPrices(instance, rng);
    const PathPrices prices(instance, random);
    const PhaseCuts cuts(instance);
    const PhaseReaders readers(instance);
    WorkingSchedule schedule(instance, cuts);
    for (size_t block = 0; block < instance.block_count(); ++block) {
      schedule.Put(block, RandomPath(instance, block, rng));
    }
    if (!RepairRoom(schedule, prices, readers, Always)) continue;
    ++repaired;
    EXPECT_THAT(CheckSchedule(instance, schedule.ToSchedule()), IsOk());
  }
  EXPECT_GE(repaired, kRounds * 9 / 10);
}

// What local search and exchanges have to make cheaper.
double Potential(const WorkingSchedule& schedule, const PathPrices& prices, PriceWeights weights) {
  const Instance& instance = schedule.instance();
  double sum = schedule.Seconds();
  for (size_t block = 0; block < instance.block_count(); ++block) {
    const Path& path = schedule.path(block);
    const uint32_t block_class = instance.block_class[block];
    const absl::Span<const uint32_t> accesses = instance.Accesses(block);
    size_t at = 0;
    for (uint32_t phase = instance.birth[block]; phase < instance.death[block]; ++phase) {
      while (at + 1 < path.size() && path[at + 1].phase <= phase) ++at;
      const StateIndex from = path[at].state;
      const bool leaves = at + 1 < path.size() && path[at + 1].phase == phase + 1;
      const StateIndex to = leaves ? path[at + 1].state : from;
      const auto count = static_cast<size_t>(std::count(accesses.begin(), accesses.end(), phase));
      sum += weights.edges * prices.Edge(block_class, phase, count, from, to) +
             weights.room * static_cast<double>(instance.ClassOf(block).bytes) *
                 prices.Stay(instance.ClassOf(block).table, from, phase, phase + 1);
    }
  }
  return sum;
}

TEST(ImprovementTest, NeverMakesItDearerAndKeepsRoom) {
  Rng rng(test_support::TestSeed(8));
  size_t changed = 0, exchanged = 0;
  for (int round = 0; round < 150; ++round) {
    const auto model = test_support::kBoundModels[rng.Below(test_support::kBoundModels.size())];
    const Instance instance = test_support::RandomInstance(model, {20, 12, 1}, rng);
    const Prices random = test_support::RandomPrices(instance, rng);
    const PathPrices prices(instance, random);
    const PhaseCuts cuts(instance);
    const PhaseReaders readers(instance);
    WorkingSchedule schedule(instance, cuts);
    for (size_t block = 0; block < instance.block_count(); ++block) {
      schedule.Put(block, RandomPath(instance, block, rng));
    }
    if (!RepairRoom(schedule, prices, readers, Always)) continue;
    LocalSearchOptions local;
    const double first = Potential(schedule, prices, local.weights);
    changed += ImproveLocally(schedule, prices, local, Always);
    const double second = Potential(schedule, prices, local.weights);
    EXPECT_LE(second, first * (1 + 1e-9));
    EXPECT_THAT(CheckSchedule(instance, schedule.ToSchedule()), IsOk());
    ExchangeOptions exchange;
    exchanged += ImproveByExchange(schedule, prices, exchange, Always);
    EXPECT_LE(Potential(schedule, prices, exchange.weights), second * (1 + 1e-9));
    EXPECT_THAT(CheckSchedule(instance, schedule.ToSchedule()), IsOk());
  }
  EXPECT_GT(changed, 100u);
  EXPECT_GT(exchanged, 5u);
}

}  // namespace
}  // namespace kvtier::bound
