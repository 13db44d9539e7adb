#include "tiering/bound/instance.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "tiering/bound/table_reach.h"

namespace kvtier::bound {
namespace {

template <typename... Args>
absl::Status Bad(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::InvalidArgumentError(absl::StrFormat(format, args...));
}

absl::Status LongName(const char* what, const std::string& name) {
  return Bad("the name of %s %s... has %d bytes; the limit is %d", what, name.substr(0, 16),
             name.size(), kNameBytesMax);
}

// What a terminal would take for a command is no name.
absl::Status CheckName(const char* what, size_t number, const std::string& name) {
  if (name.size() > kNameBytesMax) return LongName(what, name);
  for (const char letter : name) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(letter)))
      return Bad("the name of %s %d has the byte %d, a control character", what, number,
                 static_cast<unsigned char>(letter));
  }
  return absl::OkStatus();
}

absl::Status CheckMachine(const Instance& instance) {
  if (instance.tiers.empty() || instance.tiers.size() > kTiersMax)
    return Bad("%d tiers; there can be 1 to %d", instance.tiers.size(), kTiersMax);
  if (instance.resources.empty() || instance.resources.size() > kResourcesMax)
    return Bad("%d resources; there can be 1 to %d", instance.resources.size(), kResourcesMax);
  for (size_t i = 0; i < instance.tiers.size(); ++i) {
    const Tier& tier = instance.tiers[i];
    const absl::Status status = CheckName("tier", i, tier.name);
    if (!status.ok()) return status;
    for (size_t before = 0; before < i; ++before) {
      if (instance.tiers[before].name == tier.name)
        return Bad("tiers %d and %d have the same name, %s", before, i, tier.name);
    }
    if (tier.capacity_bytes > kUnitsMax)
      return Bad("tier %s has a capacity of %d bytes; the limit is %d", tier.name,
                 tier.capacity_bytes, kUnitsMax);
  }
  for (size_t i = 0; i < instance.resources.size(); ++i) {
    const Resource& resource = instance.resources[i];
    const absl::Status status = CheckName("resource", i, resource.name);
    if (!status.ok()) return status;
    for (size_t before = 0; before < i; ++before) {
      if (instance.resources[before].name == resource.name)
        return Bad("resources %d and %d have the same name, %s", before, i, resource.name);
    }
    if (resource.units_per_second == 0 || resource.units_per_second > kUnitsMax)
      return Bad("resource %s has a rate of %d units per second; it can have 1 to %d",
                 resource.name, resource.units_per_second, kUnitsMax);
  }
  if (instance.compute_resource != kNoResource &&
      instance.compute_resource >= instance.resources.size())
    return Bad("the compute resource is number %d of %d", instance.compute_resource,
               instance.resources.size());
  return absl::OkStatus();
}

absl::Status CheckOption(const Instance& instance, size_t table, const Option& option) {
  for (size_t r = instance.resources.size(); r < kResourcesMax; ++r) {
    if (option.per_byte[r] != 0)
      return Bad("an option of table %d loads resource %d, and there are %d", table, r,
                 instance.resources.size());
  }
  if (option.recomputes != 0 && instance.compute_resource == kNoResource)
    return Bad("an option of table %d recomputes, and there is no compute resource", table);
  return absl::OkStatus();
}

absl::Status CheckTable(const Instance& instance, size_t number) {
  const OptionTable& table = instance.tables[number];
  if (table.state_count() == 0 || table.state_count() > kStatesMax)
    return Bad("table %d has %d states; it can have 1 to %d", number, table.state_count(),
               kStatesMax);
  if (table.accesses_max() > kAccessesMax)
    return Bad("table %d is for %d accesses in a phase; the limit is %d", number,
               table.accesses_max(), kAccessesMax);
  for (size_t i = 0; i < table.state_count(); ++i) {
    if (table.states()[i] >> instance.tiers.size() != 0)
      return Bad("state %d of table %d is tier set %d, and there are %d tiers", i, number,
                 table.states()[i], instance.tiers.size());
    for (size_t before = 0; before < i; ++before) {
      if (table.states()[before] == table.states()[i])
        return Bad("states %d and %d of table %d are the same", before, i, number);
    }
  }
  for (size_t accesses = 0; accesses <= table.accesses_max(); ++accesses) {
    for (StateIndex from = 0; from < table.state_count(); ++from) {
      for (StateIndex to = 0; to < table.state_count(); ++to) {
        const absl::Span<const Option> options = table.Options(accesses, from, to);
        if (options.size() > kOptionsMax)
          return Bad("a list of table %d has %d options; the limit is %d", number, options.size(),
                     kOptionsMax);
        for (const Option& option : options) {
          const absl::Status status = CheckOption(instance, number, option);
          if (!status.ok()) return status;
          if (accesses == 0 && option.recomputes > 0)
            return Bad("an option of table %d recomputes in phases without access", number);
        }
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTables(const Instance& instance) {
  if (instance.tables.empty() || instance.tables.size() > kTablesMax)
    return Bad("%d tables; there can be 1 to %d", instance.tables.size(), kTablesMax);
  for (size_t i = 0; i < instance.tables.size(); ++i) {
    const absl::Status status = CheckTable(instance, i);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckClasses(const Instance& instance) {
  // What one byte and one recomputation can load most, by table.
  std::vector<uint64_t> counts_max(instance.tables.size());
  for (size_t i = 0; i < instance.tables.size(); ++i)
    counts_max[i] = LargestCount(instance.tables[i]);
  for (size_t i = 0; i < instance.classes.size(); ++i) {
    const BlockClass& block_class = instance.classes[i];
    if (block_class.table >= instance.tables.size())
      return Bad("class %d has table %d, and there are %d", i, block_class.table,
                 instance.tables.size());
    const uint64_t limit = kBlockUnitsMax / std::max<uint64_t>(counts_max[block_class.table], 1);
    if (block_class.bytes == 0 || block_class.bytes > limit)
      return Bad("class %d has %d bytes; with its table it can have 1 to %d", i, block_class.bytes,
                 limit);
    if (block_class.recompute_units > limit)
      return Bad("class %d takes %d units to recompute; with its table the limit is %d", i,
                 block_class.recompute_units, limit);
    const size_t states = instance.tables[block_class.table].state_count();
    if (block_class.start_states == 0 || block_class.start_states >> states != 0)
      return Bad("class %d may start in states %#x; its table has %d", i, block_class.start_states,
                 states);
  }
  return absl::OkStatus();
}

absl::Status CheckPhases(const Instance& instance) {
  if (instance.phase_count == 0 || instance.phase_count > kPhasesMax)
    return Bad("%d phases; there can be 1 to %d", instance.phase_count, kPhasesMax);
  if (instance.base_load.size() != size_t{instance.phase_count} * instance.resources.size())
    return Bad("%d base loads for %d phases of %d resources", instance.base_load.size(),
               instance.phase_count, instance.resources.size());
  for (size_t i = 0; i < instance.base_load.size(); ++i) {
    if (instance.base_load[i] > kUnitsMax)
      return Bad("phase %d loads resource %s with %d units; the limit is %d",
                 i / instance.resources.size(),
                 instance.resources[i % instance.resources.size()].name, instance.base_load[i],
                 kUnitsMax);
  }
  return absl::OkStatus();
}

absl::Status CheckBlockArrays(const Instance& instance) {
  const size_t blocks = instance.block_count();
  if (blocks > kBlocksMax) return Bad("%d blocks; the limit is %d", blocks, kBlocksMax);
  if (instance.birth.size() != blocks || instance.death.size() != blocks ||
      instance.first_access.size() != blocks + 1)
    return Bad("%d blocks with %d births, %d deaths and %d places of first accesses", blocks,
               instance.birth.size(), instance.death.size(), instance.first_access.size());
  if (instance.first_access.front() != 0 ||
      instance.first_access.back() != instance.access_phase.size() ||
      !std::is_sorted(instance.first_access.begin(), instance.first_access.end()))
    return Bad("the blocks' accesses do not ascend from 0 to %d", instance.access_phase.size());
  return absl::OkStatus();
}

absl::Status CheckLife(const Instance& instance, size_t block) {
  if (instance.block_class[block] >= instance.classes.size())
    return Bad("block %d is of class %d, and there are %d", block, instance.block_class[block],
               instance.classes.size());
  const uint32_t birth = instance.birth[block], death = instance.death[block];
  if (birth >= death || death > instance.phase_count)
    return Bad("block %d lives in phases %d to %d of %d", block, birth, death,
               instance.phase_count);
  uint32_t before = birth;
  for (const uint32_t phase : instance.Accesses(block)) {
    if (phase < birth || phase >= death)
      return Bad("block %d is read in phase %d, and lives in phases %d to %d", block, phase, birth,
                 death);
    if (phase < before)
      return Bad("block %d is read in phase %d after phase %d", block, phase, before);
    before = phase;
  }
  return absl::OkStatus();
}

absl::Status CheckClassPhases(const Instance& instance) {
  std::vector<uint32_t> first(instance.classes.size(), instance.phase_count);
  std::vector<uint32_t> last(instance.classes.size());
  for (size_t block = 0; block < instance.block_count(); ++block) {
    const uint32_t of = instance.block_class[block];
    first[of] = std::min(first[of], instance.birth[block]);
    last[of] = std::max(last[of], instance.death[block]);
  }
  uint64_t phases = 0;
  for (size_t i = 0; i < first.size(); ++i) phases += last[i] > first[i] ? last[i] - first[i] : 0;
  if (phases <= kClassPhasesMax) return absl::OkStatus();
  return Bad("the lives of %d classes of blocks are %d phases in all; the limit is %d",
             instance.classes.size(), phases, kClassPhasesMax);
}

absl::Status CheckPath(const Instance& instance, size_t block, TableReach& reach) {
  const OptionTable& table = instance.TableOf(block);
  StateSet states = instance.ClassOf(block).start_states;
  uint32_t at = instance.birth[block];
  const absl::Span<const uint32_t> accesses = instance.Accesses(block);
  for (size_t i = 0; i < accesses.size();) {
    const uint32_t phase = accesses[i];
    size_t count = 0;
    for (; i < accesses.size() && accesses[i] == phase; ++i) ++count;
    if (count > table.accesses_max())
      return Bad("block %d is read %d times in phase %d; its table has options for %d", block,
                 count, phase, table.accesses_max());
    states = reach.Step(reach.Idle(states, phase - at), count);
    if (states == 0) return Bad("block %d has no state that can serve phase %d", block, phase);
    at = phase + 1;
  }
  if (reach.Idle(states, instance.death[block] - at) == 0)
    return Bad("block %d has no state to be in from phase %d to phase %d", block, at,
               instance.death[block]);
  return absl::OkStatus();
}

}  // namespace

absl::Status Check(const Instance& instance) {
  for (const auto check :
       {CheckMachine, CheckTables, CheckClasses, CheckPhases, CheckBlockArrays}) {
    const absl::Status status = check(instance);
    if (!status.ok()) return status;
  }
  std::vector<TableReach> reach;
  reach.reserve(instance.tables.size());
  for (const OptionTable& table : instance.tables) reach.emplace_back(table);
  uint64_t bytes = 0;
  for (size_t block = 0; block < instance.block_count(); ++block) {
    absl::Status status = CheckLife(instance, block);
    if (status.ok()) status = CheckPath(instance, block, reach[instance.ClassOf(block).table]);
    if (!status.ok()) return status;
    bytes += instance.ClassOf(block).bytes;  // both at most 2^62
    if (bytes > kUnitsMax)
      return Bad("the first %d blocks have %d bytes; the limit is %d", block + 1, bytes, kUnitsMax);
  }
  return CheckClassPhases(instance);
}

}  // namespace kvtier::bound
