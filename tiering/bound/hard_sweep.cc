#include "tiering/bound/hard_sweep.h"

#include <algorithm>
#include <array>
#include <limits>
#include <type_traits>
#include <utility>

#include "tiering/base/check.h"
#include "tiering/bound/sweep_layout.h"

namespace kvtier::bound {
namespace {

constexpr double kForbidden = std::numeric_limits<double>::infinity();

template <size_t K>
class Sweep {
 public:
  Sweep(const Instance& instance, const CostGroup& group, const Prices& prices,
        const std::vector<double>& unit_prices, Executor& executor, HardScratch& scratch)
      : instance_(instance),
        group_(group),
        prices_(prices),
        unit_prices_(unit_prices),
        executor_(executor),
        scratch_(scratch),
        layout_(instance, group) {
    KVTIER_CHECK(layout_.entries() <= std::numeric_limits<uint32_t>::max());
  }

  double Run(Evaluation* evaluation) {
    PriceChoices();
    BuildTable();
    const size_t items = group_.item_begins.size() - 1;
    scratch_.item_seconds.assign(items, 0);
    if (evaluation == nullptr) {
      executor_.Run(items, [this](size_t item, size_t) {
        scratch_.item_seconds[item] = Item<false>(item, nullptr);
      });
    } else {
      scratch_.lanes.resize(executor_.lanes());
      for (HardScratch::Lane& lane : scratch_.lanes) {
        lane.bytes.assign(layout_.entries() * K * K, 0);
        lane.recomputed.assign(instance_.phase_count, 0);
      }
      executor_.Run(items, [this](size_t item, size_t lane) {
        scratch_.item_seconds[item] = Item<true>(item, &scratch_.lanes[lane]);
      });
      AddLanes();
      Unwind();
      AddLoads(*evaluation);
    }
    double seconds = 0;
    for (const double of_item : scratch_.item_seconds) seconds += of_item;
    return seconds;
  }

 private:
  using Froms = std::conditional_t<(K > 8), uint64_t, uint32_t>;
  static_assert(4 * K <= 64);

  static std::vector<HardScratch::Step<Froms>>& StepsOf(HardScratch::Lane& lane) {
    if constexpr (K > 8) {
      return lane.wide_steps;
    } else {
      return lane.steps;
    }
  }
  double* Cost(size_t entry) { return &scratch_.cost[entry * K * K]; }
  const double* UnitPricesOf(uint32_t phase) const {
    return &unit_prices_[size_t{phase} * instance_.resources.size()];
  }

  // The first of the cheapest options and its cost.
  std::pair<uint32_t, double> BestOption(const Choice& choice, const double* unit_prices) const {
    uint32_t best = choice.first_option;
    double best_cost = group_.Cost(best, unit_prices);
    for (uint32_t option = best + 1; option < choice.end_option; ++option) {
      const double cost = group_.Cost(option, unit_prices);
      if (cost < best_cost) {
        best = option;
        best_cost = cost;
      }
    }
    return {best, best_cost};
  }

  void PriceChoices() {
    scratch_.cost.assign(layout_.entries() * K * K, kForbidden);
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      std::array<double, K> occupancy{};
      for (size_t state = 0; state < group_.table->state_count(); ++state) {
        occupancy[state] = OccupancyPrice(group_.table->states()[state], prices_, phase);
      }
      for (const Choice& choice : group_.choices) {
        Cost(layout_.Entry(phase, choice))[choice.from * K + choice.to] =
            occupancy[choice.from] + BestOption(choice, UnitPricesOf(phase)).second;
      }
    }
  }

  void BuildTable() {
    scratch_.middle.resize(layout_.table.entries() * K * K);
    executor_.Run(layout_.table.levels() - 1, [this](size_t item, size_t) {
      const auto level = static_cast<uint32_t>(item + 1);
      const PhaseTable& table = layout_.table;
      table.Build(
          level,
          [&](uint32_t phase) {
            std::copy_n(Cost(table.Entry(0, phase)), K * K, Cost(table.Entry(level, phase)));
          },
          [&](uint32_t phase, uint32_t neighbour) {
            const size_t own = table.Entry(0, phase), other = table.Entry(level, neighbour);
            const size_t product = table.Entry(level, phase);
            const bool behind = neighbour < phase;
            Multiply(Cost(behind ? other : own), Cost(behind ? own : other), product);
          });
    });
  }

  void Multiply(const double* left, const double* right, size_t product) {
    double* const cost = Cost(product);
    uint8_t* const middle = &scratch_.middle[product * K * K];
    for (size_t from = 0; from < K; ++from) {
      for (size_t to = 0; to < K; ++to) {
        double best = left[from * K] + right[to];
        size_t best_middle = 0;
        for (size_t m = 1; m < K; ++m) {
          const double through = left[from * K + m] + right[m * K + to];
          if (through < best) {
            best = through;
            best_middle = m;
          }
        }
        cost[from * K + to] = best;
        middle[from * K + to] = static_cast<uint8_t>(best_middle);
      }
    }
  }

  // values := values x matrix; returns the best states before, four bits each.
  static Froms Advance(const double* matrix, double* values) {
    double next[K];
    Froms from = 0;
    for (size_t to = 0; to < K; ++to) {
      double best = values[0] + matrix[to];
      Froms best_from = 0;
      for (Froms f = 1; f < K; ++f) {
        const double through = values[f] + matrix[f * K + to];
        const bool better = through < best;
        best = better ? through : best;
        best_from = better ? f : best_from;
      }
      next[to] = best;
      from |= best_from << (4 * to);
    }
    for (size_t to = 0; to < K; ++to) values[to] = next[to];
    return from;
  }

  // The fewest recomputes among the cheapest ways of an access, and the cost.
  std::pair<uint32_t, double> BestRecomputes(size_t entry, size_t edge, double price) const {
    const double* const cost = &scratch_.cost[entry * K * K + edge];
    uint32_t best = 0;
    double best_cost = cost[0];
    for (uint32_t times = 1; times < layout_.variants; ++times) {
      const double with = cost[times * K * K] + times * price;
      if (with < best_cost) {
        best = times;
        best_cost = with;
      }
    }
    return {best, best_cost};
  }

  double RecomputeSeconds(uint32_t phase, double units) const {
    return units * UnitPricesOf(phase)[instance_.compute_resource];
  }

  template <bool kRecord>
  double Item(size_t item, HardScratch::Lane* lane) {
    double seconds = 0;
    for (uint32_t i = group_.item_begins[item]; i < group_.item_begins[item + 1]; ++i) {
      seconds += Block<kRecord>(group_.blocks[i], lane);
    }
    return seconds;
  }

  template <bool kRecord>
  double Block(size_t block, HardScratch::Lane* lane) {
    const BlockClass& block_class = instance_.ClassOf(block);
    const auto bytes = static_cast<double>(block_class.bytes);
    const double recompute_units = static_cast<double>(block_class.recompute_units) / bytes;
    double values[K];
    for (size_t state = 0; state < K; ++state) {
      values[state] = (block_class.start_states >> state & 1) != 0 ? 0 : kForbidden;
    }
    if constexpr (kRecord) StepsOf(*lane).clear();
    const auto through = [&](size_t entry) {
      const Froms from = Advance(Cost(entry), values);
      if constexpr (kRecord) StepsOf(*lane).push_back({static_cast<uint32_t>(entry), from});
    };
    WalkLife(
        instance_, block,
        [&](uint32_t first, uint32_t last) {
          if (first == last) return through(layout_.table.Entry(0, first));
          const uint32_t level = PhaseTable::LevelOf(first, last);
          through(layout_.table.Entry(level, first));
          through(layout_.table.Entry(level, last));
        },
        [&](uint32_t phase, uint32_t times) {
          const size_t entry = layout_.AccessEntry(phase, times);
          if (layout_.variants == 1) return through(entry);
          double matrix[K * K];
          const double price = RecomputeSeconds(phase, recompute_units);
          for (size_t edge = 0; edge < K * K; ++edge) {
            matrix[edge] = BestRecomputes(entry, edge, price).second;
          }
          const Froms from = Advance(matrix, values);
          if constexpr (kRecord) StepsOf(*lane).push_back({static_cast<uint32_t>(entry), from});
        });
    size_t state = 0;
    for (size_t other = 1; other < K; ++other) {
      if (values[other] < values[state]) state = other;
    }
    const double seconds = bytes * values[state];
    if constexpr (kRecord) Backtrack(block_class, state, *lane);
    return seconds;
  }

  void Backtrack(const BlockClass& block_class, size_t state, HardScratch::Lane& lane) {
    const std::vector<HardScratch::Step<Froms>>& steps = StepsOf(lane);
    for (size_t i = steps.size(); i-- > 0;) {
      const HardScratch::Step<Froms> step = steps[i];
      const size_t from = step.from >> (4 * state) & 0xf;
      const size_t edge = from * K + state;
      size_t entry = step.entry;
      if (layout_.variants > 1 && entry >= layout_.table.entries()) {
        const auto phase = static_cast<uint32_t>((entry - layout_.table.entries()) /
                                                 (size_t{layout_.accesses_max} * layout_.variants));
        const double units = static_cast<double>(block_class.recompute_units) /
                             static_cast<double>(block_class.bytes);
        const uint32_t times = BestRecomputes(entry, edge, RecomputeSeconds(phase, units)).first;
        lane.recomputed[phase] +=
            static_cast<unsigned __int128>(block_class.recompute_units) * times;
        entry += times;
      }
      lane.bytes[entry * K * K + edge] += block_class.bytes;
      state = from;
    }
  }

  // All lanes' counts into the first's.
  void AddLanes() {
    HardScratch::Lane& sum = scratch_.lanes.front();
    for (size_t lane = 1; lane < scratch_.lanes.size(); ++lane) {
      const HardScratch::Lane& other = scratch_.lanes[lane];
      for (size_t i = 0; i < sum.bytes.size(); ++i) sum.bytes[i] += other.bytes[i];
      for (size_t i = 0; i < sum.recomputed.size(); ++i) sum.recomputed[i] += other.recomputed[i];
    }
  }

  // Turns the counts of products into those of their phases' own matrices, in the same place.
  void Unwind() {
    uint64_t* const bytes = scratch_.lanes.front().bytes.data();
    executor_.Run(layout_.table.levels() - 1, [&](size_t item, size_t) {
      const auto level = static_cast<uint32_t>(item + 1);
      layout_.table.Unwind(level, [&](uint32_t phase, uint32_t neighbour) {
        const size_t product = layout_.table.Entry(level, phase) * K * K;
        const size_t other = layout_.table.Entry(level, neighbour) * K * K;
        uint64_t own[K * K] = {};
        for (size_t from = 0; from < K; ++from) {
          for (size_t to = 0; to < K; ++to) {
            const uint64_t count = bytes[product + from * K + to];
            const size_t middle = scratch_.middle[product + from * K + to];
            const size_t before = from * K + middle, after = middle * K + to;
            own[neighbour < phase ? after : before] += count;
            bytes[other + (neighbour < phase ? before : after)] += count;
          }
        }
        std::copy_n(own, K * K, bytes + product);
      });
    });
    const size_t phases_edges = size_t{instance_.phase_count} * K * K;
    for (uint32_t level = 1; level < layout_.table.levels(); ++level) {
      const uint64_t* const of_level = bytes + layout_.table.Entry(level, 0) * K * K;
      for (size_t i = 0; i < phases_edges; ++i) bytes[i] += of_level[i];
    }
  }

  void AddLoads(Evaluation& evaluation) const {
    const HardScratch::Lane& sum = scratch_.lanes.front();
    const size_t resources = instance_.resources.size(), tiers = instance_.tiers.size();
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      double* const load = &evaluation.load[phase * resources];
      double* const occupancy = &evaluation.occupancy[phase * tiers];
      if (sum.recomputed[phase] > 0) {
        load[instance_.compute_resource] += static_cast<double>(sum.recomputed[phase]);
      }
      for (const Choice& choice : group_.choices) {
        const uint64_t count =
            sum.bytes[layout_.Entry(phase, choice) * K * K + choice.from * K + choice.to];
        if (count == 0) continue;
        const auto bytes = static_cast<double>(count);
        const uint32_t option = BestOption(choice, UnitPricesOf(phase)).first;
        for (uint32_t i = group_.options[option].first_load; i < group_.options[option].end_load;
             ++i) {
          load[group_.loads[i].resource] += bytes * group_.loads[i].count;
        }
        const TierSet state = group_.table->states()[choice.from];
        for (size_t tier = 0; tier < tiers; ++tier) {
          if ((state >> tier & 1) != 0) occupancy[tier] += bytes;
        }
      }
    }
  }

  const Instance& instance_;
  const CostGroup& group_;
  const Prices& prices_;
  const std::vector<double>& unit_prices_;
  Executor& executor_;
  HardScratch& scratch_;
  SweepLayout layout_;
};

}  // namespace

double HardSweep(const Instance& instance, const CostGroup& group, const Prices& prices,
                 const std::vector<double>& unit_prices, Executor& executor, HardScratch& scratch,
                 Evaluation* evaluation) {
  return WithWidth(group.table->state_count(), [&](auto width) {
    return Sweep<width()>(instance, group, prices, unit_prices, executor, scratch).Run(evaluation);
  });
}

}  // namespace kvtier::bound
