#include "tests/support/bound/random_instance.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tiering/base/check.h"
#include "tiering/bound/standard_tables.h"

namespace kvtier::test_support {
namespace {

using bound::Instance;
using bound::TableSpec;
using bound::TierSet;

uint64_t Between(Rng& rng, uint64_t least, uint64_t most) {
  return least + rng.Below(most - least + 1);
}

uint8_t AddResource(Instance& instance, const std::string& name, uint64_t rate) {
  instance.resources.push_back({.name = name, .units_per_second = rate});
  return static_cast<uint8_t>(instance.resources.size() - 1);
}

// Tier 0 is the GPU's memory, the next the peer's if there is one, the last is DRAM. Links are
// counted in half of the instances, and where they are the only thing that is.
TableSpec Machine(BoundModel model, Instance& instance, Rng& rng) {
  TableSpec spec;
  const bool link_only = model == BoundModel::kStream || model == BoundModel::kStrict;
  const bool links = link_only || rng.OneIn(2);
  const auto tier = [&](const char* name, uint64_t rate, bool on_gpu) {
    bound::TierPorts ports{.on_gpu = on_gpu};
    if (!link_only) ports.memory = AddResource(instance, name, rate);
    if (!on_gpu && links) {
      ports.link_in = AddResource(instance, std::string(name) + ".in", Between(rng, 1, 4));
      ports.link_out =
          rng.OneIn(3) ? ports.link_in : AddResource(instance, std::string(name) + ".out", 2);
    }
    spec.tiers.push_back(ports);
    instance.tiers.push_back({.name = name});
  };
  tier("hbm", Between(rng, 3, 9), true);
  if (model == BoundModel::kThreeTiers) tier("peer", Between(rng, 2, 5), false);
  tier("dram", Between(rng, 1, 3), false);
  if (model == BoundModel::kRecompute || rng.OneIn(2))
    instance.compute_resource = AddResource(instance, "compute", Between(rng, 1, 5));
  return spec;
}

void States(BoundModel model, TableSpec& spec, Rng& rng) {
  switch (model) {
    case BoundModel::kExclusive:
      spec.states = {0b01, 0b10};
      break;
    case BoundModel::kThreeTiers:
      spec.states = {0b101, 0b110, 0b100};
      break;
    case BoundModel::kFourTiers:
      break;  // FourTiers
    case BoundModel::kRecompute:
      spec.states = {0b01, 0b10, 0b00};
      if (rng.OneIn(2)) spec.states.push_back(0b11);
      spec.recompute = true;
      break;
    case BoundModel::kStrict:
      spec.strict = true;
      spec.tiers[1].serves_reads = false;
      [[fallthrough]];
    case BoundModel::kInclusive:
    case BoundModel::kStream:
      spec.states = {0b11, 0b10};
      break;
  }
}

// DRAM behind a link, and two memories more of which only the ports count.
TableSpec FourTiers(Instance& instance, Rng& rng) {
  TableSpec spec;
  for (const char* name : {"hbm", "peer", "cxl", "dram"}) {
    spec.tiers.push_back(
        {.memory = AddResource(instance, name, Between(rng, 1, 9)), .on_gpu = spec.tiers.empty()});
    instance.tiers.push_back({.name = name});
  }
  spec.tiers.back().link_in = AddResource(instance, "in", Between(rng, 1, 4));
  spec.tiers.back().link_out = AddResource(instance, "out", 2);
  instance.compute_resource = AddResource(instance, "compute", Between(rng, 1, 5));
  spec.recompute = rng.OneIn(2);
  for (TierSet set = spec.recompute ? 0 : 1; set < 16; ++set) spec.states.push_back(set);
  return spec;
}

// Only rates differ between instances, and making a table takes long.
const bound::OptionTable& TableOfFourTiers(const TableSpec& spec) {
  static std::array<std::optional<bound::OptionTable>, 2> made;
  std::optional<bound::OptionTable>& table = made[spec.recompute ? 1 : 0];
  if (!table) table = *bound::MakeTable(spec);
  return *table;
}

void AddTable(Instance& instance, const TableSpec& spec) {
  absl::StatusOr<bound::OptionTable> table = bound::MakeTable(spec);
  KVTIER_CHECK(table.ok());
  instance.tables.push_back(*std::move(table));
}

// One class has a table of its own now and then: its blocks stay where DRAM alone has them.
void Classes(BoundModel model, const TableSpec& spec, Instance& instance, Rng& rng) {
  const bool four = model == BoundModel::kFourTiers;
  if (four) {
    instance.tables.push_back(TableOfFourTiers(spec));
  } else {
    AddTable(instance, spec);
  }
  const bool pinned = model != BoundModel::kStrict && !four && rng.OneIn(4);
  if (pinned) {
    TableSpec in_dram = spec;
    in_dram.states = {static_cast<TierSet>(1u << (spec.tiers.size() - 1))};
    AddTable(instance, in_dram);
  }
  const size_t count = Between(rng, 1, 3);
  for (size_t i = 0; i < count; ++i) {
    bound::BlockClass block_class{.bytes = Between(rng, 1, 4)};
    block_class.recompute_units = Between(rng, 0, 8);
    block_class.table = static_cast<uint8_t>(pinned && i == 0 ? 1 : 0);
    const std::vector<TierSet>& states = instance.tables[block_class.table].states();
    if (rng.OneIn(3)) {
      // Where DRAM alone has it; there is room for everything.
      const auto in_dram = std::find(states.begin(), states.end(),
                                     static_cast<TierSet>(1u << (spec.tiers.size() - 1)));
      block_class.start_states = static_cast<bound::StateSet>(1u << (in_dram - states.begin()));
    } else {
      block_class.start_states = static_cast<bound::StateSet>((1u << states.size()) - 1);
    }
    instance.classes.push_back(block_class);
  }
}

void Blocks(BoundModel model, const RandomSize& size, Instance& instance, Rng& rng) {
  const uint32_t stride = model == BoundModel::kStrict ? 2 : 1;
  const uint64_t blocks = Between(rng, 1, size.blocks_max);
  const bool whole_lives = rng.OneIn(2);
  const uint64_t read_of_four = Between(rng, 1, 3);
  instance.first_access.push_back(0);
  for (uint64_t block = 0; block < blocks; ++block) {
    const uint32_t pairs = instance.phase_count / stride;
    const auto birth = static_cast<uint32_t>(whole_lives ? 0 : rng.Below(pairs));
    const auto death = static_cast<uint32_t>(whole_lives ? pairs : Between(rng, birth + 1, pairs));
    instance.block_class.push_back(static_cast<uint32_t>(rng.Below(instance.classes.size())));
    instance.birth.push_back(birth * stride);
    instance.death.push_back(death * stride);
    for (uint32_t phase = birth; phase < death; ++phase) {
      const bool read = rng.Below(4) < read_of_four;
      const uint64_t times =
          read ? Between(rng, 1, model == BoundModel::kFourTiers ? 1 : size.accesses_max) : 0;
      for (uint64_t i = 0; i < times; ++i)
        instance.access_phase.push_back(phase * stride + stride - 1);
    }
    instance.first_access.push_back(instance.access_phase.size());
  }
}

// All blocks' bytes, and the most that is read in one phase.
std::pair<uint64_t, uint64_t> BytesNeeded(const Instance& instance) {
  uint64_t all = 0;
  std::vector<uint64_t> read(instance.phase_count);
  for (size_t block = 0; block < instance.block_count(); ++block) {
    const uint64_t bytes = instance.ClassOf(block).bytes;
    all += bytes;
    const absl::Span<const uint32_t> accesses = instance.Accesses(block);
    for (size_t i = 0; i < accesses.size(); ++i) {
      if (i == 0 || accesses[i] != accesses[i - 1]) read[accesses[i]] += bytes;
    }
  }
  return {all, *std::max_element(read.begin(), read.end())};
}

}  // namespace

const char* NameOf(BoundModel model) {
  constexpr std::array kNames = {"exclusive", "inclusive", "three tiers", "stream",
                                 "strict",    "recompute", "four tiers"};
  return kNames[static_cast<size_t>(model)];
}

bound::Instance RandomInstance(BoundModel model, const RandomSize& size, Rng& rng) {
  Instance instance;
  const bool four = model == BoundModel::kFourTiers;
  TableSpec spec = four ? FourTiers(instance, rng) : Machine(model, instance, rng);
  spec.accesses_max = four ? 1 : size.accesses_max;
  States(model, spec, rng);
  Classes(model, spec, instance, rng);
  instance.phase_count = static_cast<uint32_t>(Between(rng, 1, size.phases_max)) *
                         (model == BoundModel::kStrict ? 2 : 1);
  Blocks(model, size, instance, rng);
  const auto [all, read] = BytesNeeded(instance);
  for (bound::Tier& tier : instance.tiers) tier.capacity_bytes = Between(rng, 0, all * 2 / 3);
  if (model == BoundModel::kStrict)
    instance.tiers[0].capacity_bytes = std::max(instance.tiers[0].capacity_bytes, read);
  instance.tiers.back().capacity_bytes = all;
  if (model == BoundModel::kRecompute && rng.OneIn(2)) {
    instance.tiers.back().capacity_bytes = Between(rng, 0, all);
    const size_t states = instance.tables[0].state_count();
    for (bound::BlockClass& block_class : instance.classes) {
      block_class.table = 0;
      block_class.start_states = static_cast<bound::StateSet>((1u << states) - 1);
    }
  }
  const bool based = rng.OneIn(2);
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
    for (size_t r = 0; r < instance.resources.size(); ++r)
      instance.base_load.push_back(based ? rng.Below(4) : 0);
  }
  const absl::Status status = bound::Check(instance);
  KVTIER_CHECK(status.ok());
  return instance;
}

}  // namespace kvtier::test_support
