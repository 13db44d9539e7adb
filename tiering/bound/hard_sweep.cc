#include "tiering/bound/hard_sweep.h"

#include <algorithm>
#include <array>
#include <limits>
#include <type_traits>
#include <utility>

#include "absl/types/span.h"
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
    scratch_.lanes.resize(executor_.lanes());
    const bool record = evaluation != nullptr;
    if (record) ClearLanes();
    executor_.Run(items, [this, record](size_t item, size_t lane) {
      scratch_.item_seconds[item] =
          record ? Item<true>(item, scratch_.lanes[lane]) : Item<false>(item, scratch_.lanes[lane]);
    });
    if (record) {
      AddLanes();
      Unwind();
      AddLoads(*evaluation);
    }
    double seconds = 0;
    for (const double of_item : scratch_.item_seconds) seconds += of_item;
    return seconds;
  }

 private:
  using Lane = HardScratch::Lane;
  using Froms = std::conditional_t<(K > 8), uint64_t, uint32_t>;
  static_assert(4 * K <= 64);

  static std::vector<Froms>& FromsOf(Lane& lane) {
    if constexpr (K > 8) {
      return lane.wide_froms;
    } else {
      return lane.froms;
    }
  }
  void ClearLanes() {
    for (Lane& lane : scratch_.lanes) {
      lane.bytes.assign(layout_.entries() * K * K, 0);
      lane.recomputed.assign(instance_.phase_count, 0);
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

  // The cheapest of values[m] + to[m x K], and the first m of that cost. Written so that compilers
  // make no branch of it, which would be guessed wrong as often as not.
  static double BestThrough(const double* values, const double* to, Froms& best_m) {
    double best = values[0] + to[0];
    Froms at = 0;
    ForEach<K - 1>([&](size_t before) {
      const size_t m = before + 1;
      const double through = values[m] + to[m * K];
      const Froms better = -static_cast<Froms>(through < best);  // all bits or none
      at = (at & ~better) | (static_cast<Froms>(m) & better);
      best = through < best ? through : best;
    });
    best_m = at;
    return best;
  }

  void Multiply(const double* left, const double* right, size_t product) {
    double* const cost = Cost(product);
    uint8_t* const middle = &scratch_.middle[product * K * K];
    for (size_t from = 0; from < K; ++from) {
      for (size_t to = 0; to < K; ++to) {
        Froms best_middle = 0;
        cost[from * K + to] = BestThrough(left + from * K, right + to, best_middle);
        middle[from * K + to] = static_cast<uint8_t>(best_middle);
      }
    }
  }

  // values := values x matrix; returns the best states before, four bits each.
  static Froms Advance(const double* matrix, double* values) {
    double next[K];
    Froms from = 0;
    ForEach<K>([&](size_t to) {
      Froms best_from = 0;
      next[to] = BestThrough(values, matrix + to, best_from);
      from |= best_from << (4 * to);
    });
    ForEach<K>([&](size_t to) { values[to] = next[to]; });
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

  // A byte's.
  double RecomputeSeconds(const BlockClass& block_class, uint32_t phase) const {
    return static_cast<double>(block_class.recompute_units) /
           static_cast<double>(block_class.bytes) * UnitPricesOf(phase)[instance_.compute_resource];
  }

  template <bool kRecord>
  double Item(size_t item, Lane& lane) {
    const bool recomputes = layout_.variants > 1;
    double seconds = 0;
    for (uint32_t i = group_.item_begins[item]; i < group_.item_begins[item + 1]; ++i) {
      seconds += recomputes ? Block<kRecord, true>(group_.blocks[i], lane)
                            : Block<kRecord, false>(group_.blocks[i], lane);
    }
    return seconds;
  }

  template <bool kRecord, bool kRecomputes>
  double Block(size_t block, Lane& lane) {
    const BlockClass& block_class = instance_.ClassOf(block);
    const auto bytes = static_cast<double>(block_class.bytes);
    double values[K];
    for (size_t state = 0; state < K; ++state) {
      values[state] = (block_class.start_states >> state & 1) != 0 ? 0 : kForbidden;
    }
    const absl::Span<const uint32_t> life = layout_.LayOut(instance_, block, lane.entries);
    std::vector<Froms>& froms = FromsOf(lane);
    if (kRecord && froms.size() < life.size()) froms.resize(2 * life.size());
    for (size_t step = 0; step < life.size(); ++step) {
      const double* matrix = Cost(life[step]);
      double with_recomputes[K * K];
      if (kRecomputes && layout_.IsAccess(life[step])) {
        PriceRecomputes(block_class, life[step], with_recomputes);
        matrix = with_recomputes;
      }
      const Froms from = Advance(matrix, values);
      if constexpr (kRecord) froms[step] = from;
    }
    size_t state = 0;
    for (size_t other = 1; other < K; ++other) {
      if (values[other] < values[state]) state = other;
    }
    if constexpr (kRecord) Backtrack<kRecomputes>(block_class, life, state, lane);
    return bytes * values[state];
  }

  void PriceRecomputes(const BlockClass& block_class, uint32_t entry, double* matrix) const {
    const double price = RecomputeSeconds(block_class, layout_.PhaseOf(entry));
    for (size_t edge = 0; edge < K * K; ++edge) {
      matrix[edge] = BestRecomputes(entry, edge, price).second;
    }
  }

  template <bool kRecomputes>
  void Backtrack(const BlockClass& block_class, absl::Span<const uint32_t> life, size_t state,
                 Lane& lane) {
    const std::vector<Froms>& froms = FromsOf(lane);
    for (size_t i = life.size(); i-- > 0;) {
      const size_t from = froms[i] >> (4 * state) & 0xf;
      const size_t edge = from * K + state;
      size_t entry = life[i];
      if (kRecomputes && layout_.IsAccess(life[i])) {
        const uint32_t phase = layout_.PhaseOf(life[i]);
        const uint32_t times =
            BestRecomputes(entry, edge, RecomputeSeconds(block_class, phase)).first;
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
    Lane& sum = scratch_.lanes.front();
    for (size_t lane = 1; lane < scratch_.lanes.size(); ++lane) {
      const Lane& other = scratch_.lanes[lane];
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
    const Lane& sum = scratch_.lanes.front();
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
