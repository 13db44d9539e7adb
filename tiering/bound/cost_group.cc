#include "tiering/bound/cost_group.h"

#include <algorithm>
#include <map>

namespace kvtier::bound {
namespace {

// Large enough to hide the start of a piece, small enough for many lanes.
constexpr uint64_t kItemAccesses = 1 << 15;

double RecomputePerByte(const BlockClass& block_class) {
  return static_cast<double>(block_class.recompute_units) / static_cast<double>(block_class.bytes);
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

void AddOption(const Option& option, CostGroup& group) {
  CostGroup::PricedOption priced;
  priced.first_load = static_cast<uint32_t>(group.loads.size());
  for (uint8_t r = 0; r < kResourcesMax; ++r) {
    if (option.per_byte[r] > 0) group.loads.push_back({r, static_cast<double>(option.per_byte[r])});
  }
  priced.end_load = static_cast<uint32_t>(group.loads.size());
  group.options.push_back(priced);
}

// Each count of recomputes is a choice.
void AddChoices(uint32_t accesses, StateIndex from, StateIndex to, CostGroup& group) {
  std::map<uint32_t, std::vector<const Option*>> by_recomputes;
  for (const Option& option : group.table->Options(accesses, from, to)) {
    by_recomputes[option.recomputes].push_back(&option);
  }
  for (const auto& [recomputes, same] : by_recomputes) {
    Choice choice{accesses, from, to, recomputes, static_cast<uint32_t>(group.options.size()), 0};
    for (const Option* const option : same) AddOption(*option, group);
    choice.end_option = static_cast<uint32_t>(group.options.size());
    group.choices.push_back(choice);
    group.recomputes_max = std::max(group.recomputes_max, recomputes);
  }
}

double MoveWeight(const Instance& instance, const CostGroup& group) {
  double accesses = 1, phases = 1;
  for (const uint32_t block : group.blocks) {
    accesses += static_cast<double>(instance.Accesses(block).size());
    phases += instance.death[block] - instance.birth[block];
  }
  return std::min(1.0, accesses / phases);
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

}  // namespace

std::vector<CostGroup> CostGroups(const Instance& instance) {
  std::vector<CostGroup> groups(instance.tables.size());
  for (uint32_t block = 0; block < instance.block_count(); ++block) {
    const BlockClass& block_class = instance.ClassOf(block);
    CostGroup& group = groups[block_class.table];
    group.blocks.push_back(block);
    group.accesses_max = std::max(group.accesses_max, MostAccessesOfAPhase(instance, block));
    group.recompute_per_byte_max =
        std::max(group.recompute_per_byte_max, RecomputePerByte(block_class));
  }
  for (size_t t = 0; t < groups.size(); ++t) {
    CostGroup& group = groups[t];
    group.table = &instance.tables[t];
    const StateIndex states = group.table->state_count();
    for (uint32_t accesses = 0; accesses <= group.accesses_max; ++accesses) {
      for (StateIndex from = 0; from < states; ++from) {
        for (StateIndex to = 0; to < states; ++to) AddChoices(accesses, from, to, group);
      }
    }
    group.move_weight = MoveWeight(instance, group);
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
