#include "tiering/bound/primal/option_split.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <unordered_map>
#include <utility>

#include "tiering/bound/primal/path_edges.h"
#include "tiering/bound/primal/whole_split.h"

namespace kvtier::bound {
namespace {

constexpr uint32_t kPhasesAtOnce = 64;
constexpr size_t kGatheredAtOnce = 4096;

// Blocks of a class that make the same transition in the same phase, and it has several options.
struct Group {
  uint32_t phase = 0;
  uint32_t block_class = 0;
  uint32_t accesses = 0;
  StateIndex from = 0;
  StateIndex to = 0;
  uint64_t blocks = 0;
};

class Splitter {
 public:
  Splitter(const Instance& instance, Schedule& schedule)
      : instance_(instance),
        schedule_(schedule),
        resources_(instance.resources.size()),
        fixed_(instance.base_load.begin(), instance.base_load.end()) {
    for (const BlockClass& block_class : instance.classes) {
      first_edge_.push_back(edges_);
      const OptionTable& table = instance.tables[block_class.table];
      edges_ += (table.accesses_max() + 1) * table.state_count() * table.state_count();
    }
    for (size_t r = 0; r < resources_; ++r) {
      seconds_per_unit_.push_back(1 / static_cast<double>(instance.resources[r].units_per_second));
    }
  }

  SplitResult Run(Executor& executor) {
    // One item at a time, so that it can be stopped.
    for (size_t first = 0; first < instance_.block_count(); first += kGatheredAtOnce) {
      executor.Run(1, [&](size_t, size_t) {
        const size_t end = std::min(first + kGatheredAtOnce, instance_.block_count());
        for (size_t block = first; block < end; ++block) Gather(block);
      });
    }
    std::vector<Group> groups = SortedGroups();
    SplitResult result;
    result.shares.resize(size_t{instance_.phase_count} * resources_);
    const size_t items = (instance_.phase_count + kPhasesAtOnce - 1) / kPhasesAtOnce;
    std::vector<std::vector<OptionPart>> parts(items);
    std::vector<double> seconds(items), divided_seconds(items);
    executor.Run(items, [&](size_t item, size_t) {
      const auto begin = static_cast<uint32_t>(item * kPhasesAtOnce);
      const uint32_t end = std::min(begin + kPhasesAtOnce, instance_.phase_count);
      WholeSplit split(resources_);
      auto group = std::lower_bound(groups.begin(), groups.end(), begin,
                                    [](const Group& g, uint32_t phase) { return g.phase < phase; });
      for (uint32_t phase = begin; phase < end; ++phase) {
        auto last = group;
        while (last != groups.end() && last->phase == phase) ++last;
        seconds[item] += SplitPhase(
            phase,
            absl::MakeConstSpan(groups).subspan(static_cast<size_t>(group - groups.begin()),
                                                static_cast<size_t>(last - group)),
            split, parts[item], &result.shares[phase * resources_]);
        divided_seconds[item] += split.divided_seconds();
        group = last;
      }
    });
    schedule_.parts.clear();
    for (size_t item = 0; item < items; ++item) {
      result.seconds += seconds[item];
      result.divided_seconds += divided_seconds[item];
      schedule_.parts.insert(schedule_.parts.end(), parts[item].begin(), parts[item].end());
    }
    return result;
  }

 private:
  // Of one block.
  void AddLoad(const BlockClass& block_class, const Option& option, double* load) const {
    for (size_t r = 0; r < resources_; ++r) {
      load[r] += static_cast<double>(block_class.bytes) * option.per_byte[r];
    }
    if (option.recomputes > 0) {
      load[instance_.compute_resource] +=
          static_cast<double>(block_class.recompute_units) * option.recomputes;
    }
  }

  void Gather(size_t block) {
    const uint32_t block_class = instance_.block_class[block];
    const OptionTable& table = instance_.TableOf(block);
    ForEachEdge(instance_, block, schedule_.Changes(block),
                [&](uint32_t phase, uint32_t accesses, StateIndex from, StateIndex to) {
                  const absl::Span<const Option> options = table.Options(accesses, from, to);
                  if (options.size() == 1) {
                    AddLoad(instance_.classes[block_class], options[0],
                            &fixed_[phase * resources_]);
                    return;
                  }
                  const size_t states = table.state_count();
                  ++blocks_[phase * edges_ + first_edge_[block_class] +
                            (accesses * states + from) * states + to];
                });
  }

  std::vector<Group> SortedGroups() const {
    std::vector<std::pair<uint64_t, uint64_t>> sorted(blocks_.begin(), blocks_.end());
    std::sort(sorted.begin(), sorted.end());
    std::vector<Group> groups;
    groups.reserve(sorted.size());
    for (const auto& [key, blocks] : sorted) {
      Group group;
      group.phase = static_cast<uint32_t>(key / edges_);
      const size_t edge = key % edges_;
      const auto behind = std::upper_bound(first_edge_.begin(), first_edge_.end(), edge);
      group.block_class = static_cast<uint32_t>(behind - first_edge_.begin() - 1);
      const size_t states =
          instance_.tables[instance_.classes[group.block_class].table].state_count();
      const size_t place = edge - first_edge_[group.block_class];
      group.to = static_cast<StateIndex>(place % states);
      group.from = static_cast<StateIndex>(place / states % states);
      group.accesses = static_cast<uint32_t>(place / states / states);
      group.blocks = blocks;
      groups.push_back(group);
    }
    return groups;
  }

  double SplitPhase(uint32_t phase, absl::Span<const Group> groups, WholeSplit& split,
                    std::vector<OptionPart>& parts, double* shares) const {
    std::array<double, kResourcesMax> seconds{};
    const auto to_seconds = [&](const double* load) {
      for (size_t r = 0; r < resources_; ++r) seconds[r] = load[r] * seconds_per_unit_[r];
      return absl::MakeConstSpan(seconds).first(resources_);
    };
    split.Begin(to_seconds(&fixed_[phase * resources_]));
    for (const Group& group : groups) {
      split.AddGroup(group.blocks);
      const BlockClass& block_class = instance_.classes[group.block_class];
      for (const Option& option :
           instance_.tables[block_class.table].Options(group.accesses, group.from, group.to)) {
        std::array<double, kResourcesMax> load{};
        AddLoad(block_class, option, load.data());
        split.AddOption(option.recomputes, to_seconds(load.data()));
      }
    }
    const double time = split.Solve();
    std::copy(split.shares().begin(), split.shares().end(), shares);
    for (size_t g = 0; g < groups.size(); ++g) AddParts(split, g, groups[g], parts);
    return time;
  }

  // Of options that compute equally often each part is rounded down, and the largest gets the rest.
  void AddParts(const WholeSplit& split, size_t number, const Group& group,
                std::vector<OptionPart>& parts) const {
    const absl::Span<const Option> options =
        instance_.tables[instance_.classes[group.block_class].table].Options(group.accesses,
                                                                             group.from, group.to);
    std::vector<uint64_t> part(options.size());
    for (size_t o = 0; o < options.size(); ++o) {
      const auto equal = [&](const Option& other) {
        return other.recomputes == options[o].recomputes;
      };
      if (std::any_of(options.begin(), options.begin() + static_cast<ptrdiff_t>(o), equal))
        continue;
      const uint64_t whole = split.blocks(number, o) * kWholePart;
      uint64_t left = whole;
      size_t largest = o;
      for (size_t same = o; same < options.size(); ++same) {
        if (!equal(options[same])) continue;
        const double weight = std::clamp(split.part(number, same), 0.0, 1.0);
        part[same] = std::min(left, static_cast<uint64_t>(weight * static_cast<double>(whole)));
        left -= part[same];
        if (part[same] > part[largest]) largest = same;
      }
      part[largest] += left;
    }
    if (part[0] == group.blocks * kWholePart) return;
    for (size_t o = 0; o < options.size(); ++o) {
      if (part[o] == 0) continue;
      parts.push_back({group.phase, group.block_class, group.accesses, group.from, group.to,
                       static_cast<uint16_t>(o), part[o]});
    }
  }

  const Instance& instance_;
  Schedule& schedule_;
  const size_t resources_;
  size_t edges_ = 0;
  std::vector<size_t> first_edge_;  // by class
  std::vector<double> seconds_per_unit_;
  std::vector<double> fixed_;                      // [phase][resource], units
  std::unordered_map<uint64_t, uint64_t> blocks_;  // by phase * edges_ + edge
};

}  // namespace

SplitResult SplitOptions(const Instance& instance, Schedule& schedule, Executor& executor) {
  return Splitter(instance, schedule).Run(executor);
}

}  // namespace kvtier::bound
