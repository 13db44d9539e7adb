#include "tiering/bound/cost_group.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "tiering/bound/phase_table.h"

namespace kvtier::bound {
namespace {

// Large enough to hide the start of a piece, small enough for many lanes.
constexpr uint64_t kItemAccesses = 1 << 15;
// Entries of a table over the phases that cost little in any case.
constexpr size_t kSmallTable = 1 << 14;

double RecomputePerByte(const BlockClass& block_class) {
  return static_cast<double>(block_class.recompute_units) / static_cast<double>(block_class.bytes);
}

bool RecomputesWithoutAccess(const OptionTable& table) {
  const auto states = static_cast<StateIndex>(table.state_count());
  for (StateIndex from = 0; from < states; ++from) {
    for (StateIndex to = 0; to < states; ++to) {
      for (const Option& option : table.Options(0, from, to)) {
        if (option.recomputes > 0) return true;
      }
    }
  }
  return false;
}

uint32_t MostAccessesOfAPhase(const Instance& instance, size_t block) {
  uint32_t most = 0, run = 0, last = 0;
  for (const uint32_t phase : instance.Accesses(block)) {
    run = run > 0 && phase == last ? run + 1 : 1;
    last = phase;
    most = std::max(most, run);
  }
  return most;
}

void AddOption(const Option& option, double recompute_per_byte, uint8_t compute, CostGroup& group) {
  CostGroup::PricedOption priced;
  priced.first_load = static_cast<uint32_t>(group.loads.size());
  for (uint8_t r = 0; r < kResourcesMax; ++r) {
    double count = option.per_byte[r];
    if (r == compute) count += option.recomputes * recompute_per_byte;
    if (count > 0) group.loads.push_back({r, count});
  }
  priced.end_load = static_cast<uint32_t>(group.loads.size());
  group.options.push_back(priced);
}

// Without accesses, recomputes are part of the options; with them, each count is a choice.
void AddChoices(uint32_t accesses, StateIndex from, StateIndex to, double recompute_per_byte,
                uint8_t compute, CostGroup& group) {
  const auto options = group.table->Options(accesses, from, to);
  std::map<uint32_t, std::vector<const Option*>> by_recomputes;
  for (const Option& option : options) {
    by_recomputes[accesses == 0 ? 0 : option.recomputes].push_back(&option);
  }
  for (const auto& [recomputes, same] : by_recomputes) {
    Choice choice{accesses, from, to, recomputes, static_cast<uint32_t>(group.options.size()), 0};
    for (const Option* const option : same) {
      AddOption(*option, accesses == 0 ? recompute_per_byte : 0, compute, group);
    }
    choice.end_option = static_cast<uint32_t>(group.options.size());
    group.choices.push_back(choice);
    group.recomputes_max = std::max(group.recomputes_max, recomputes);
  }
}

void CutIntoItems(const Instance& instance, CostGroup& group) {
  group.item_begins = {0};
  uint64_t accesses = 0;
  for (uint32_t i = 0; i < group.blocks.size(); ++i) {
    accesses += 4 + instance.Accesses(group.blocks[i]).size();
    if (accesses >= kItemAccesses) {
      group.item_begins.push_back(i + 1);
      accesses = 0;
    }
  }
  if (group.item_begins.back() != group.blocks.size()) {
    group.item_begins.push_back(static_cast<uint32_t>(group.blocks.size()));
  }
}

// Each group has a table over the phases. Where these are large, there are no more groups than keep
// their cost below that of the accesses.
size_t GroupsMax(const Instance& instance) {
  const size_t entries = PhaseTable(instance.phase_count).entries();
  if (entries <= kSmallTable) return kGroupsOfATableMax;
  return std::clamp<size_t>(instance.access_count() / entries, 1, kGroupsOfATableMax);
}

// For each table that recomputes without access, the lowest recompute_units / bytes of its groups,
// ascending; for others only zero.
std::vector<std::vector<double>> GroupFloors(const Instance& instance) {
  const size_t groups_max = GroupsMax(instance);
  std::vector<std::set<double>> numbers(instance.tables.size());
  for (const BlockClass& block_class : instance.classes) {
    numbers[block_class.table].insert(RecomputePerByte(block_class));
  }
  std::vector<std::vector<double>> floors(instance.tables.size(), {0});
  for (size_t t = 0; t < instance.tables.size(); ++t) {
    if (numbers[t].empty() || !RecomputesWithoutAccess(instance.tables[t])) continue;
    floors[t].assign(numbers[t].begin(), numbers[t].end());
    if (floors[t].size() <= groups_max) continue;
    std::vector<double> even;
    for (size_t i = 0; i < groups_max; ++i) {
      even.push_back(floors[t][i * floors[t].size() / groups_max]);
    }
    floors[t] = std::move(even);
  }
  return floors;
}

}  // namespace

std::vector<CostGroup> CostGroups(const Instance& instance) {
  const std::vector<std::vector<double>> floors = GroupFloors(instance);
  std::map<std::pair<uint8_t, double>, size_t> numbers;
  std::vector<size_t> group_of_class;
  std::vector<CostGroup> groups;
  for (const BlockClass& block_class : instance.classes) {
    const std::vector<double>& of_table = floors[block_class.table];
    const double recompute = *std::prev(
        std::upper_bound(of_table.begin(), of_table.end(), RecomputePerByte(block_class)));
    const auto [it, added] = numbers.try_emplace({block_class.table, recompute}, groups.size());
    group_of_class.push_back(it->second);
    if (added) groups.emplace_back().table = &instance.tables[block_class.table];
  }
  for (uint32_t block = 0; block < instance.block_count(); ++block) {
    CostGroup& group = groups[group_of_class[instance.block_class[block]]];
    group.blocks.push_back(block);
    group.accesses_max = std::max(group.accesses_max, MostAccessesOfAPhase(instance, block));
    group.recompute_per_byte_max =
        std::max(group.recompute_per_byte_max, RecomputePerByte(instance.ClassOf(block)));
  }
  for (const auto& [key, number] : numbers) {
    CostGroup& group = groups[number];
    const auto states = static_cast<StateIndex>(group.table->state_count());
    for (uint32_t accesses = 0; accesses <= group.accesses_max; ++accesses) {
      for (StateIndex from = 0; from < states; ++from) {
        for (StateIndex to = 0; to < states; ++to) {
          AddChoices(accesses, from, to, key.second, instance.compute_resource, group);
        }
      }
    }
    CutIntoItems(instance, group);
  }
  std::erase_if(groups, [](const CostGroup& group) { return group.blocks.empty(); });
  return groups;
}

std::vector<double> UnitPrices(const Instance& instance, const Prices& prices) {
  const size_t resources = instance.resources.size();
  std::vector<double> unit_prices(prices.share.size());
  for (size_t i = 0; i < unit_prices.size(); ++i) {
    unit_prices[i] =
        prices.share[i] / static_cast<double>(instance.resources[i % resources].units_per_second);
  }
  return unit_prices;
}

double OccupancyPrice(TierSet state, const Prices& prices, uint32_t phase) {
  double price = 0;
  const auto room = prices.Room(phase);
  for (size_t tier = 0; tier < room.size(); ++tier) {
    if ((state >> tier & 1) != 0) price += room[tier];
  }
  return price;
}

}  // namespace kvtier::bound
