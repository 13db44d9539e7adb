#include "tests/support/bound/brute_force.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "tests/support/bound/phase_optimum.h"
#include "tiering/base/check.h"

namespace kvtier::test_support {
namespace {

using bound::Instance;
using bound::OptionTable;
using bound::StateIndex;

constexpr double kNever = std::numeric_limits<double>::infinity();
using Joint = std::vector<StateIndex>;  // by block

// One block's step in a phase: what it may load.
struct Step {
  std::map<uint16_t, std::vector<Loads>> options;  // that may share the block's bytes
  Loads least;                                     // the least of each resource
};

class Search {
 public:
  Search(const Instance& instance, Recomputed recomputed)
      : instance_(instance), recomputed_(recomputed) {
    std::vector<Joint> joints = {{}};
    for (size_t block = 0; block < instance.block_count(); ++block) {
      std::vector<Joint> longer;
      for (const Joint& joint : joints) {
        for (StateIndex state = 0; state < instance.TableOf(block).state_count(); ++state) {
          longer.push_back(joint);
          longer.back().push_back(state);
        }
      }
      joints = std::move(longer);
      KVTIER_CHECK(joints.size() <= 4096);
    }
    joints_ = std::move(joints);
  }

  double Run() {
    std::vector<double> seconds(joints_.size(), 0);  // before phase 0 nothing has passed
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      for (size_t i = 0; i < joints_.size(); ++i) {
        if (!Allowed(joints_[i], phase)) seconds[i] = kNever;
      }
      seconds = After(phase, seconds);
    }
    return *std::min_element(seconds.begin(), seconds.end());
  }

 private:
  bool Alive(size_t block, uint32_t phase) const {
    return instance_.birth[block] <= phase && phase < instance_.death[block];
  }

  // Whether blocks may be so at the start of the phase: room, and births.
  bool Allowed(const Joint& joint, uint32_t phase) const {
    std::vector<uint64_t> used(instance_.tiers.size());
    for (size_t block = 0; block < joint.size(); ++block) {
      if (!Alive(block, phase)) continue;
      if (phase == instance_.birth[block] &&
          (instance_.ClassOf(block).start_states >> joint[block] & 1) == 0)
        return false;
      for (size_t tier = 0; tier < used.size(); ++tier) {
        if ((instance_.TableOf(block).states()[joint[block]] >> tier & 1) != 0)
          used[tier] += instance_.ClassOf(block).bytes;
      }
    }
    for (size_t tier = 0; tier < used.size(); ++tier) {
      if (used[tier] > instance_.tiers[tier].capacity_bytes) return false;
    }
    return true;
  }

  Loads LoadsOf(size_t block, const bound::Option& option) const {
    const bound::BlockClass& block_class = instance_.ClassOf(block);
    Loads loads(instance_.resources.size());
    for (size_t r = 0; r < loads.size(); ++r) {
      double units = double{1} * option.per_byte[r] * static_cast<double>(block_class.bytes);
      if (r == instance_.compute_resource)
        units += double{1} * option.recomputes * static_cast<double>(block_class.recompute_units);
      loads[r] = units / static_cast<double>(instance_.resources[r].units_per_second);
    }
    return loads;
  }

  // [from][to] of a block that lives in the phase.
  std::vector<std::vector<Step>> Steps(size_t block, uint32_t phase) const {
    const OptionTable& table = instance_.TableOf(block);
    const absl::Span<const uint32_t> accesses = instance_.Accesses(block);
    const auto count = static_cast<size_t>(std::count(accesses.begin(), accesses.end(), phase));
    std::vector<std::vector<Step>> steps(table.state_count(),
                                         std::vector<Step>(table.state_count()));
    for (StateIndex from = 0; from < table.state_count(); ++from) {
      for (StateIndex to = 0; to < table.state_count(); ++to) {
        Step& step = steps[from][to];
        for (const bound::Option& option : table.Options(count, from, to)) {
          const Loads loads = LoadsOf(block, option);
          step.options[recomputed_ == Recomputed::kWhole ? option.recomputes : 0].push_back(loads);
          if (step.least.empty()) step.least = loads;
          for (size_t r = 0; r < step.least.size(); ++r)
            step.least[r] = std::min(step.least[r], loads[r]);
        }
      }
    }
    return steps;
  }

  std::vector<double> After(uint32_t phase, const std::vector<double>& before) const {
    Loads base(instance_.resources.size());
    for (size_t r = 0; r < base.size(); ++r)
      base[r] = static_cast<double>(instance_.BaseLoad(phase)[r]) /
                static_cast<double>(instance_.resources[r].units_per_second);
    std::vector<std::vector<std::vector<Step>>> steps(instance_.block_count());
    for (size_t block = 0; block < steps.size(); ++block) {
      if (Alive(block, phase)) steps[block] = Steps(block, phase);
    }
    std::vector<double> after(joints_.size(), kNever);
    std::vector<size_t> order(joints_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return before[a] < before[b]; });
    for (const size_t from : order) {
      if (before[from] == kNever) break;
      for (size_t to = 0; to < joints_.size(); ++to) {
        if (before[from] >= after[to]) continue;
        const double within = after[to] - before[from];
        after[to] = std::min(
            after[to], before[from] + Seconds(steps, base, joints_[from], joints_[to], within));
      }
    }
    return after;
  }

  // The phase's time from one placement to another; any number from `within` up if it is not less.
  double Seconds(const std::vector<std::vector<std::vector<Step>>>& steps, const Loads& base,
                 const Joint& from, const Joint& to, double within) const {
    Loads least = base;
    bool split = false;
    for (size_t block = 0; block < from.size(); ++block) {
      if (steps[block].empty()) continue;  // not alive: its state says nothing and costs nothing
      const Step& step = steps[block][from[block]][to[block]];
      if (step.options.empty()) return kNever;
      split = split || step.options.size() > 1 || step.options.begin()->second.size() > 1;
      for (size_t r = 0; r < least.size(); ++r) least[r] += step.least[r];
    }
    const double at_least = *std::max_element(least.begin(), least.end());
    if (!split || at_least >= within) return at_least;
    std::vector<const Step*> taken;
    for (size_t block = 0; block < from.size(); ++block) {
      if (!steps[block].empty()) taken.push_back(&steps[block][from[block]][to[block]]);
    }
    std::vector<std::vector<Loads>> groups;
    return LeastOfAll(base, taken, groups);
  }

  // Over all ways to choose the options that share the bytes of the blocks behind `groups`.
  static double LeastOfAll(const Loads& base, const std::vector<const Step*>& taken,
                           std::vector<std::vector<Loads>>& groups) {
    if (groups.size() == taken.size()) return LeastPhaseSeconds(base, groups);
    double least = kNever;
    for (const auto& [recomputes, options] : taken[groups.size()]->options) {
      groups.push_back(options);
      least = std::min(least, LeastOfAll(base, taken, groups));
      groups.pop_back();
    }
    return least;
  }

  const Instance& instance_;
  const Recomputed recomputed_;
  std::vector<Joint> joints_;
};

}  // namespace

double LeastSeconds(const Instance& instance, Recomputed recomputed) {
  return Search(instance, recomputed).Run();
}

}  // namespace kvtier::test_support
