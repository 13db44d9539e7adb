#include "tiering/bound/merged_phases.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/bound/option_hull.h"
#include "tiering/bound/window.h"

namespace kvtier::bound {
namespace {

// [accesses][from][to] options of a run of phases.
class RunOptions {
 public:
  RunOptions(size_t states, size_t accesses_max)
      : states_(states), lists_((accesses_max + 1) * states * states) {}

  std::vector<Option>& At(size_t accesses, size_t from, size_t to) {
    return lists_[(accesses * states_ + from) * states_ + to];
  }
  friend bool operator==(const RunOptions& a, const RunOptions& b) = default;

 private:
  size_t states_;
  std::vector<std::vector<Option>> lists_;
};

absl::StatusOr<Option> Sum(const Option& a, const Option& b) {
  Option sum;
  for (size_t r = 0; r < kResourcesMax; ++r) {
    const uint32_t units = uint32_t{a.per_byte[r]} + b.per_byte[r];
    if (units > 0xffff) return absl::ResourceExhaustedError("an option's load has no room");
    sum.per_byte[r] = static_cast<uint16_t>(units);
  }
  const uint32_t recomputes = uint32_t{a.recomputes} + b.recomputes;
  if (recomputes > 0xffff) return absl::ResourceExhaustedError("recomputes have no room");
  sum.recomputes = static_cast<uint16_t>(recomputes);
  return sum;
}

// The cheapest ways through `left` and then one phase of `table`.
absl::StatusOr<RunOptions> Lengthen(RunOptions& left, const OptionTable& table,
                                    size_t accesses_max) {
  const auto states = static_cast<StateIndex>(table.state_count());
  RunOptions longer(states, accesses_max);
  for (size_t accesses = 0; accesses <= accesses_max; ++accesses) {
    for (StateIndex from = 0; from < states; ++from) {
      for (StateIndex to = 0; to < states; ++to) {
        std::vector<Option> options;
        const size_t last_max = std::min(accesses, table.accesses_max());
        for (size_t last = 0; last <= last_max; ++last) {
          for (StateIndex middle = 0; middle < states; ++middle) {
            for (const Option& first : left.At(accesses - last, from, middle)) {
              for (const Option& second : table.Options(last, middle, to)) {
                KVTIER_ASSIGN_OR_RETURN(const Option sum, Sum(first, second));
                AddToHull(options, sum);
              }
            }
          }
        }
        options = LowerHull(std::move(options));
        if (options.size() > kOptionsMax) {
          return absl::ResourceExhaustedError(absl::StrFormat(
              "%d options of merged phases, at most %d have room", options.size(), kOptionsMax));
        }
        longer.At(accesses, from, to) = std::move(options);
      }
    }
  }
  return longer;
}

absl::StatusOr<OptionTable> MergeTable(const OptionTable& table, uint32_t length,
                                       size_t accesses_max) {
  const auto states = static_cast<StateIndex>(table.state_count());
  RunOptions run(states, accesses_max);
  for (StateIndex state = 0; state < states; ++state) run.At(0, state, state) = {Option()};
  for (uint32_t phases = 0; phases < length; ++phases) {
    KVTIER_ASSIGN_OR_RETURN(RunOptions longer, Lengthen(run, table, accesses_max));
    if (longer == run) break;  // one phase more has nothing new
    run = std::move(longer);
  }
  OptionTable merged(table.states(), accesses_max);
  for (size_t accesses = 0; accesses <= accesses_max; ++accesses) {
    for (StateIndex from = 0; from < states; ++from) {
      for (StateIndex to = 0; to < states; ++to) {
        for (const Option& option : run.At(accesses, from, to)) {
          merged.Add(accesses, from, to, option);
        }
      }
    }
  }
  return merged;
}

// Adds the blocks, in their order; returns the most accesses that one has in a run.
size_t AddBlocks(const Instance& instance, uint32_t length, Instance& merged) {
  const auto classes = static_cast<uint32_t>(instance.classes.size());
  size_t most = 0;
  merged.first_access.push_back(0);
  for (size_t block = 0; block < instance.block_count(); ++block) {
    const bool within = instance.birth[block] % length != 0;
    const uint32_t birth = instance.birth[block] / length + (within ? 1 : 0);
    const uint32_t death = (instance.death[block] - 1) / length + 1;
    if (birth >= death) continue;
    merged.block_class.push_back(instance.block_class[block] + (within ? classes : 0));
    merged.birth.push_back(birth);
    merged.death.push_back(death);
    size_t run = 0;
    for (const uint32_t phase : instance.Accesses(block)) {
      const uint32_t at = phase / length;
      if (at < birth) continue;
      const bool again = run > 0 && merged.access_phase.back() == at;
      run = again ? run + 1 : 1;
      most = std::max(most, run);
      merged.access_phase.push_back(at);
    }
    merged.first_access.push_back(merged.access_phase.size());
  }
  return most;
}

}  // namespace

absl::StatusOr<Instance> MergePhases(const Instance& instance, uint32_t length,
                                     uint32_t accesses_max) {
  KVTIER_CHECK(length > 0);
  Instance merged;
  merged.tiers = instance.tiers;
  merged.resources = instance.resources;
  merged.compute_resource = instance.compute_resource;
  merged.tables = instance.tables;
  merged.classes = instance.classes;
  AddFreeStarts(merged);
  const size_t resources = instance.resources.size();
  merged.phase_count = (instance.phase_count - 1) / length + 1;
  merged.base_load.assign(merged.phase_count * resources, 0);
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
    for (size_t r = 0; r < resources; ++r) {
      uint64_t& sum = merged.base_load[phase / length * resources + r];
      sum += instance.base_load[phase * resources + r];
      if (sum > kUnitsMax) {
        return absl::ResourceExhaustedError(
            absl::StrFormat("base loads of merged phases have no room: phase %d, at most %d units",
                            phase, kUnitsMax));
      }
    }
  }
  const size_t most = AddBlocks(instance, length, merged);
  if (most > accesses_max) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("a block has %d accesses in %d merged phases, at most %d have room", most,
                        length, accesses_max));
  }
  for (OptionTable& table : merged.tables) {
    KVTIER_ASSIGN_OR_RETURN(table, MergeTable(table, length, most));
  }
  return merged;
}

Prices LiftFromMerged(const Prices& merged, uint32_t length, uint32_t phases) {
  Prices lifted(phases, merged.resource_count, merged.tier_count);
  for (uint32_t phase = 0; phase < phases; ++phase) {
    const auto share = merged.Share(phase / length);
    std::copy(share.begin(), share.end(), lifted.Share(phase).begin());
    if (phase % length != 0) continue;
    const auto room = merged.Room(phase / length);
    std::copy(room.begin(), room.end(), lifted.Room(phase).begin());
  }
  return lifted;
}

}  // namespace kvtier::bound
