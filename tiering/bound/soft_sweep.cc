#include "tiering/bound/soft_sweep.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "absl/types/span.h"
#include "tiering/base/check.h"
#include "tiering/bound/sweep_layout.h"

namespace kvtier::bound {
namespace {

constexpr double kLog2 = 0.69314718055994530942;
// In temperatures; see the header. Products of a few phases' weights stay in range with these.
constexpr double kUsualRange = 500;
constexpr double kWideRange = 2500;
// Sums of a block's paths are brought back to 1 when they are so far from it.
constexpr double kNear = 0x1p-64;

// 2^-e for a `value` in [2^e, 2^(e+1)), and e.
double Shrink(double value, int64_t& exponent) {
  const auto biased = static_cast<int64_t>(std::bit_cast<uint64_t>(value) >> 52);
  if (biased == 0) {  // zero or nearly: left as it is
    exponent = 0;
    return 1;
  }
  exponent = biased - 1023;
  return std::bit_cast<double>(static_cast<uint64_t>(1023 - exponent) << 52);
}
long double Shrink(long double value, int64_t& exponent) {
  exponent = value > 0 ? std::ilogb(value) : 0;
  return std::scalbn(1.0L, static_cast<int>(-exponent));
}

// How far apart the costs of one phase's choices can be for one block, in seconds a byte.
double CostRange(const Instance& instance, const CostGroup& group,
                 const std::vector<double>& unit_prices) {
  double range = 0;
  const size_t resources = instance.resources.size();
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
    const double* const of_phase = &unit_prices[phase * resources];
    double most = 0;
    for (const Choice& choice : group.choices) {
      double cost = group.Cost(choice.first_option, of_phase);
      if (choice.recomputes > 0) {
        cost +=
            choice.recomputes * group.recompute_per_byte_max * of_phase[instance.compute_resource];
      }
      most = std::max(most, cost);
    }
    range = std::max(range, most);
  }
  return range;
}

template <size_t K, typename Number>
class Sweep {
 public:
  Sweep(const Instance& instance, const CostGroup& group, const Prices& prices,
        const std::vector<double>& unit_prices, double temperature, Executor& executor,
        SoftMemory<Number>& memory)
      : instance_(instance),
        group_(group),
        prices_(prices),
        unit_prices_(unit_prices),
        temperature_(temperature),
        executor_(executor),
        memory_(memory),
        layout_(instance, group) {
    KVTIER_CHECK(layout_.entries() <= std::numeric_limits<uint32_t>::max());
    FixScales();
  }

  double Run(Evaluation* evaluation) {
    PriceChoices();
    BuildTable();
    const bool record = evaluation != nullptr;
    memory_.item_seconds.assign(group_.item_begins.size() - 1, 0);
    memory_.lanes.resize(executor_.lanes());
    if (record) ClearLanes();
    executor_.Run(memory_.item_seconds.size(), [this, record](size_t item, size_t lane) {
      memory_.item_seconds[item] =
          record ? Item<true>(item, memory_.lanes[lane]) : Item<false>(item, memory_.lanes[lane]);
    });
    double seconds = 0;
    for (const double of_item : memory_.item_seconds) seconds += of_item;
    if (record && std::isfinite(seconds)) {
      AddLanes();
      Unwind();
      AddLoads(*evaluation);
    }
    return seconds;
  }

 private:
  using Lane = typename SoftMemory<Number>::Lane;

  Number* Weight(size_t entry) { return &memory_.weight[entry * K * K]; }
  const double* UnitPricesOf(uint32_t phase) const {
    return &unit_prices_[size_t{phase} * instance_.resources.size()];
  }

  void ClearLanes() {
    for (Lane& lane : memory_.lanes) {
      lane.share.assign(layout_.entries() * K * K, 0);
      lane.recomputed.assign(instance_.phase_count, 0);
    }
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

  // Sums of shares stay below 2^61, so that no order of adding them matters.
  void FixScales() {
    double bytes = 1, recomputed = 1;
    for (const uint32_t block : group_.blocks) {
      const BlockClass& block_class = instance_.ClassOf(block);
      bytes += static_cast<double>(block_class.bytes);
      recomputed += static_cast<double>(block_class.recompute_units) * group_.recomputes_max;
    }
    byte_scale_ = std::exp2(60 - std::ceil(std::log2(bytes)));
    recompute_scale_ = std::exp2(60 - std::ceil(std::log2(recomputed)));
  }

  double CheapestOption(const Choice& choice, const double* unit_prices) const {
    double cheapest = group_.Cost(choice.first_option, unit_prices);
    for (uint32_t option = choice.first_option + 1; option < choice.end_option; ++option) {
      cheapest = std::min(cheapest, group_.Cost(option, unit_prices));
    }
    return cheapest;
  }

  // Calls visit(option, weight) with weights relative to the cheapest option's.
  template <typename Visit>
  void ForOptions(const Choice& choice, const double* unit_prices, double cheapest,
                  const Visit& visit) const {
    for (uint32_t option = choice.first_option; option < choice.end_option; ++option) {
      visit(option, std::exp((cheapest - group_.Cost(option, unit_prices)) / temperature_));
    }
  }

  // The log of a choice's options' weights together.
  double LogWeight(const Choice& choice, const double* unit_prices) const {
    const double cheapest = CheapestOption(choice, unit_prices);
    const bool moves = choice.accesses == 0 && choice.from != choice.to;
    const double weight = moves ? std::log(group_.move_weight) : 0;
    if (choice.end_option == choice.first_option + 1) return weight - cheapest / temperature_;
    double sum = 0;
    ForOptions(choice, unit_prices, cheapest, [&](uint32_t, double part) { sum += part; });
    return weight + std::log(sum) - cheapest / temperature_;
  }

  // All matrices of a phase's accesses of one number have one scale, whatever the recomputes.
  void PriceChoices() {
    memory_.weight.assign(layout_.entries() * K * K, 0);
    memory_.log_scale.assign(layout_.entries(), 0);
    std::vector<double> logs(group_.choices.size());
    std::vector<double> most(layout_.accesses_max + 1);
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      std::array<double, K> occupancy{};
      for (size_t state = 0; state < group_.table->state_count(); ++state) {
        occupancy[state] = OccupancyPrice(group_.table->states()[state], prices_, phase);
      }
      std::fill(most.begin(), most.end(), -std::numeric_limits<double>::infinity());
      for (size_t i = 0; i < logs.size(); ++i) {
        const Choice& choice = group_.choices[i];
        logs[i] = LogWeight(choice, UnitPricesOf(phase)) - occupancy[choice.from] / temperature_;
        most[choice.accesses] = std::max(most[choice.accesses], logs[i]);
      }
      for (size_t i = 0; i < logs.size(); ++i) {
        const Choice& choice = group_.choices[i];
        const size_t entry = layout_.Entry(phase, choice);
        memory_.log_scale[entry] = most[choice.accesses];
        Weight(entry)[choice.from * K + choice.to] =
            std::exp(static_cast<Number>(logs[i] - most[choice.accesses]));
      }
      for (uint32_t accesses = 1; accesses <= layout_.accesses_max; ++accesses) {
        memory_.log_scale[layout_.AccessEntry(phase, accesses)] = most[accesses];
      }
    }
  }

  void BuildTable() {
    executor_.Run(layout_.table.levels() - 1, [this](size_t item, size_t) {
      const auto level = static_cast<uint32_t>(item + 1);
      const PhaseTable& table = layout_.table;
      table.Build(
          level,
          [&](uint32_t phase) {
            const size_t from = table.Entry(0, phase), to = table.Entry(level, phase);
            std::copy_n(Weight(from), K * K, Weight(to));
            memory_.log_scale[to] = memory_.log_scale[from];
          },
          [&](uint32_t phase, uint32_t neighbour) {
            const size_t own = table.Entry(0, phase), other = table.Entry(level, neighbour);
            const bool behind = neighbour < phase;
            Multiply(behind ? other : own, behind ? own : other, table.Entry(level, phase));
          });
    });
  }

  void Multiply(size_t left_entry, size_t right_entry, size_t product) {
    const Number* const left = Weight(left_entry);
    const Number* const right = Weight(right_entry);
    Number* const weight = Weight(product);
    Number most = 0;
    for (size_t from = 0; from < K; ++from) {
      for (size_t to = 0; to < K; ++to) {
        Number sum = 0;
        for (size_t m = 0; m < K; ++m) sum += left[from * K + m] * right[m * K + to];
        weight[from * K + to] = sum;
        most = std::max(most, sum);
      }
    }
    int64_t exponent = 0;
    const Number shrink = Shrink(most, exponent);
    for (size_t edge = 0; edge < K * K; ++edge) weight[edge] *= shrink;
    memory_.log_scale[product] = memory_.log_scale[left_entry] + memory_.log_scale[right_entry] +
                                 kLog2 * static_cast<double>(exponent);
  }

  // Of one block: what it adds up to on its way.
  struct Way {
    std::array<Number, K> values{};
    double log_scale = 0;
    int64_t exponent = 0;
  };

  // way.values := way.values x matrix. Returns what that was multiplied with to stay near 1.
  Number Advance(uint32_t entry, const Number* matrix, Way& way) const {
    Number sum = 0;
    std::array<Number, K> next;
    ForEach<K>([&](size_t to) {
      Number value = 0;
      ForEach<K>([&](size_t from) { value += way.values[from] * matrix[from * K + to]; });
      next[to] = value;
      sum += value;
    });
    way.values = next;
    way.log_scale += memory_.log_scale[entry];
    if (sum > kNear && sum < 1 / kNear) return 1;
    int64_t exponent = 0;
    const Number shrink = Shrink(sum, exponent);
    for (Number& value : way.values) value *= shrink;
    way.exponent += exponent;
    return shrink;
  }

  // The weights of an access with all numbers of recomputes, each worth `recompute`.
  void AddVariants(size_t entry, Number recompute, Number* matrix) const {
    for (size_t edge = 0; edge < K * K; ++edge) {
      Number sum = 0;
      for (uint32_t times = layout_.variants; times-- > 0;) {
        sum = sum * recompute + memory_.weight[(entry + times) * K * K + edge];
      }
      matrix[edge] = sum;
    }
  }

  Number RecomputeWeight(const BlockClass& block_class, uint32_t phase) const {
    const double seconds = static_cast<double>(block_class.recompute_units) *
                           UnitPricesOf(phase)[instance_.compute_resource] /
                           static_cast<double>(block_class.bytes);
    return std::exp(static_cast<Number>(-seconds / temperature_));
  }

  template <bool kRecord, bool kRecomputes>
  double Block(size_t block, Lane& lane) {
    const BlockClass& block_class = instance_.ClassOf(block);
    Way way;
    for (size_t state = 0; state < K; ++state) {
      way.values[state] = (block_class.start_states >> state & 1) != 0 ? 1 : 0;
    }
    const absl::Span<const uint32_t> life = layout_.LayOut(instance_, block, lane.entries);
    if (kRecord && lane.factors.size() < life.size()) {
      lane.factors.resize(2 * life.size());
      lane.values.resize(2 * life.size() * K);
    }
    for (size_t i = 0; i < life.size(); ++i) {
      const Number* matrix = Weight(life[i]);
      std::array<Number, K * K> with_recomputes;
      if (kRecomputes && layout_.IsAccess(life[i])) {
        AddVariants(life[i], RecomputeWeight(block_class, layout_.PhaseOf(life[i])),
                    with_recomputes.data());
        matrix = with_recomputes.data();
      }
      if constexpr (kRecord) std::copy_n(way.values.data(), K, &lane.values[i * K]);
      const Number factor = Advance(life[i], matrix, way);
      if constexpr (kRecord) lane.factors[i] = factor;
    }
    Number sum = 0;
    for (const Number value : way.values) sum += value;
    if (!(sum > 0)) return std::numeric_limits<double>::infinity();  // all paths vanished
    if constexpr (kRecord) GoBack<kRecomputes>(block_class, life, sum, lane);
    const double log_sum = static_cast<double>(std::log(sum)) +
                           kLog2 * static_cast<double>(way.exponent) + way.log_scale;
    return -temperature_ * log_sum * static_cast<double>(block_class.bytes);
  }

  // A share, which is not negative, as an integer. Of a block all of whose paths nearly vanish,
  // numbers may be infinite or none at all; such shares are left out: they only say where to go
  // next.
  static int64_t Counted(Number share) {
    return static_cast<int64_t>(share < Number{9e18} ? share : Number{0});
  }

  // Shares of the block's bytes by edge: weights of the paths before, of the edge and of the paths
  // behind, over those of all paths.
  template <bool kRecomputes>
  void GoBack(const BlockClass& block_class, absl::Span<const uint32_t> life, Number sum,
              Lane& lane) {
    std::array<Number, K> behind;
    behind.fill(static_cast<Number>(static_cast<double>(block_class.bytes) * byte_scale_) / sum);
    for (size_t i = life.size(); i-- > 0;) {
      const Number factor = lane.factors[i];
      if (factor != 1) {
        for (Number& value : behind) value *= factor;
      }
      const Number* const before = &lane.values[i * K];
      if (kRecomputes && layout_.IsAccess(life[i])) {
        BackThroughRecomputes(block_class, life[i], before, behind, lane);
        continue;
      }
      const Number* const matrix = Weight(life[i]);
      int64_t* const share = &lane.share[size_t{life[i]} * K * K];
      std::array<Number, K> next;
      ForEach<K>([&](size_t from) {
        Number value = 0;
        ForEach<K>([&](size_t to) {
          const Number through = matrix[from * K + to] * behind[to];
          share[from * K + to] += Counted(before[from] * through);
          value += through;
        });
        next[from] = value;
      });
      behind = next;
    }
  }

  void BackThroughRecomputes(const BlockClass& block_class, uint32_t entry, const Number* before,
                             std::array<Number, K>& behind, Lane& lane) {
    const uint32_t phase = layout_.PhaseOf(entry);
    const Number recompute = RecomputeWeight(block_class, phase);
    const double units_scale = static_cast<double>(block_class.recompute_units) * recompute_scale_ /
                               (static_cast<double>(block_class.bytes) * byte_scale_);
    std::array<Number, K> next{};
    Number factor = 1, recomputed = 0;
    for (uint32_t times = 0; times < layout_.variants; ++times, factor *= recompute) {
      const Number* const matrix = Weight(entry + times);
      int64_t* const share = &lane.share[(size_t{entry} + times) * K * K];
      for (size_t from = 0; from < K; ++from) {
        for (size_t to = 0; to < K; ++to) {
          const Number through = factor * matrix[from * K + to] * behind[to];
          share[from * K + to] += Counted(before[from] * through);
          recomputed += static_cast<Number>(times) * before[from] * through;
          next[from] += through;
        }
      }
    }
    lane.recomputed[phase] += Counted(recomputed * units_scale);
    behind = next;
  }

  // All lanes' shares, in bytes.
  void AddLanes() {
    Lane& sum = memory_.lanes.front();
    for (size_t lane = 1; lane < memory_.lanes.size(); ++lane) {
      const Lane& other = memory_.lanes[lane];
      for (size_t i = 0; i < sum.share.size(); ++i) sum.share[i] += other.share[i];
      for (size_t i = 0; i < sum.recomputed.size(); ++i) sum.recomputed[i] += other.recomputed[i];
    }
    memory_.share.resize(sum.share.size());
    for (size_t i = 0; i < sum.share.size(); ++i) {
      memory_.share[i] = static_cast<double>(sum.share[i]) / byte_scale_;
    }
  }

  // Turns the shares of products into those of their phases' own matrices, in the same place.
  void Unwind() {
    double* const share = memory_.share.data();
    executor_.Run(layout_.table.levels() - 1, [&](size_t item, size_t) {
      const auto level = static_cast<uint32_t>(item + 1);
      layout_.table.Unwind(level, [&](uint32_t phase, uint32_t neighbour) {
        Split(layout_.table.Entry(level, phase), layout_.table.Entry(0, phase),
              layout_.table.Entry(level, neighbour), neighbour < phase);
      });
    });
    const size_t phases_edges = size_t{instance_.phase_count} * K * K;
    for (uint32_t level = 1; level < layout_.table.levels(); ++level) {
      const double* const of_level = share + layout_.table.Entry(level, 0) * K * K;
      for (size_t i = 0; i < phases_edges; ++i) share[i] += of_level[i];
    }
  }

  void Split(size_t product, size_t own_entry, size_t other_entry, bool behind) {
    const Number* const left = Weight(behind ? other_entry : own_entry);
    const Number* const right = Weight(behind ? own_entry : other_entry);
    std::array<double, K * K> own{};
    double* const other = &memory_.share[other_entry * K * K];
    double* const share = &memory_.share[product * K * K];
    for (size_t from = 0; from < K; ++from) {
      for (size_t to = 0; to < K; ++to) {
        if (share[from * K + to] == 0) continue;
        Number sum = 0;
        for (size_t m = 0; m < K; ++m) sum += left[from * K + m] * right[m * K + to];
        if (sum <= 0) continue;
        const Number each = share[from * K + to] / sum;
        for (size_t m = 0; m < K; ++m) {
          const auto part = static_cast<double>(each * (left[from * K + m] * right[m * K + to]));
          own[behind ? m * K + to : from * K + m] += part;
          other[behind ? from * K + m : m * K + to] += part;
        }
      }
    }
    std::copy(own.begin(), own.end(), share);
  }

  void AddLoads(Evaluation& evaluation) const {
    const size_t resources = instance_.resources.size(), tiers = instance_.tiers.size();
    const Lane& sum = memory_.lanes.front();
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      double* const load = &evaluation.load[phase * resources];
      double* const occupancy = &evaluation.occupancy[phase * tiers];
      if (sum.recomputed[phase] > 0) {
        load[instance_.compute_resource] +=
            static_cast<double>(sum.recomputed[phase]) / recompute_scale_;
      }
      for (const Choice& choice : group_.choices) {
        const double bytes =
            memory_.share[layout_.Entry(phase, choice) * K * K + choice.from * K + choice.to];
        if (bytes == 0) continue;
        AddOptions(choice, UnitPricesOf(phase), bytes, load);
        const TierSet state = group_.table->states()[choice.from];
        for (size_t tier = 0; tier < tiers; ++tier) {
          if ((state >> tier & 1) != 0) occupancy[tier] += bytes;
        }
      }
    }
  }

  void AddOptions(const Choice& choice, const double* unit_prices, double bytes,
                  double* load) const {
    const double cheapest = CheapestOption(choice, unit_prices);
    double sum = 0;
    ForOptions(choice, unit_prices, cheapest, [&](uint32_t, double weight) { sum += weight; });
    ForOptions(choice, unit_prices, cheapest, [&](uint32_t number, double weight) {
      const CostGroup::PricedOption& option = group_.options[number];
      for (uint32_t i = option.first_load; i < option.end_load; ++i) {
        load[group_.loads[i].resource] += bytes * weight / sum * group_.loads[i].count;
      }
    });
  }

  const Instance& instance_;
  const CostGroup& group_;
  const Prices& prices_;
  const std::vector<double>& unit_prices_;
  const double temperature_;
  Executor& executor_;
  SoftMemory<Number>& memory_;
  SweepLayout layout_;
  double byte_scale_ = 1;
  double recompute_scale_ = 1;
};

}  // namespace

double SoftSweep(const Instance& instance, const CostGroup& group, const Prices& prices,
                 const std::vector<double>& unit_prices, double temperature, Executor& executor,
                 SoftScratch& scratch, Evaluation* evaluation) {
  const double range = CostRange(instance, group, unit_prices);
  return WithWidth(group.table->state_count(), [&](auto width) {
    constexpr size_t kStates = width();
    const auto run = [&]<typename Number>(double at, SoftMemory<Number>& memory) {
      return Sweep<kStates, Number>(instance, group, prices, unit_prices, at, executor, memory)
          .Run(evaluation);
    };
    const bool usual = range <= kUsualRange * temperature;
    const double seconds = usual ? run(temperature, scratch.usual) : HUGE_VAL;
    if (std::isfinite(seconds)) return seconds;
    for (double at = std::max(temperature, range / kWideRange); std::isfinite(at); at *= 4) {
      if (const double wide = run(at, scratch.wide); std::isfinite(wide)) return wide;
    }
    return -std::numeric_limits<double>::infinity();  // a block has no path: worth nothing
  });
}

}  // namespace kvtier::bound
