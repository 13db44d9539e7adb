#include "tiering/bound/primal/schedule_checker.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace kvtier::bound {
namespace {

using Wide = unsigned __int128;

// Blocks that do the same in the same phase.
struct Group {
  uint32_t phase = 0;
  uint32_t block_class = 0;
  uint32_t accesses = 0;
  StateIndex from = 0;
  StateIndex to = 0;

  auto Key() const { return std::tie(phase, block_class, accesses, from, to); }
};

// A group that the schedule divides among options: parts [first, last) of the sorted ones.
struct DividedGroup : Group {
  size_t first = 0;
  size_t last = 0;
  uint64_t blocks = 0;
};

bool SameKey(const Group& a, const Group& b) { return a.Key() == b.Key(); }
bool KeyLess(const Group& a, const Group& b) { return a.Key() < b.Key(); }

Group GroupOf(const OptionPart& part) {
  return {part.phase, part.block_class, part.accesses, part.from, part.to};
}

std::string Words(const Group& group) {
  return absl::StrFormat("class %d from state %d to %d with %d accesses in phase %d",
                         group.block_class, group.from, group.to, group.accesses, group.phase);
}

std::string Blocks(Wide parts) {
  return absl::StrFormat("%d + %d/%d blocks", static_cast<uint64_t>(parts / kWholePart),
                         static_cast<uint64_t>(parts % kWholePart), kWholePart);
}

constexpr size_t kFollowedBetweenQuestions = 1024;

class Checker {
 public:
  Checker(const Instance& instance, const Schedule& schedule)
      : instance_(instance),
        schedule_(schedule),
        resources_(instance.resources.size()),
        tiers_(instance.tiers.size()),
        load_(instance.base_load.begin(), instance.base_load.end()),
        bytes_((size_t{instance.phase_count} + 1) * tiers_) {}

  absl::StatusOr<ScheduleTime> Run(const StopCheck& stop) {
    if (absl::Status status = SortParts(); !status.ok()) return status;
    if (absl::Status status = CheckShape(); !status.ok()) return status;
    for (size_t block = 0; block < instance_.block_count(); ++block) {
      if (block % kFollowedBetweenQuestions == 0 && stop && stop())
        return absl::CancelledError("the check of a schedule was ended");
      if (absl::Status status = Follow(block); !status.ok()) return status;
    }
    if (absl::Status status = CheckParts(); !status.ok()) return status;
    if (absl::Status status = CheckRoom(); !status.ok()) return status;
    return Sum();
  }

 private:
  // Puts the parts of each group side by side and checks that they name what exists.
  absl::Status SortParts() {
    parts_ = schedule_.parts;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const OptionPart& part = parts_[i];
      if (i > 0 && part.phase < parts_[i - 1].phase) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "part %d is of phase %d, behind one of phase %d", i, part.phase, parts_[i - 1].phase));
      }
      if (part.phase >= instance_.phase_count || part.block_class >= instance_.classes.size()) {
        return absl::InvalidArgumentError(
            absl::StrFormat("part %d names phase %d of %d and class %d of %d", i, part.phase,
                            instance_.phase_count, part.block_class, instance_.classes.size()));
      }
      const OptionTable& table = Table(part.block_class);
      if (part.accesses > table.accesses_max() || part.from >= table.state_count() ||
          part.to >= table.state_count() ||
          part.option >= table.Options(part.accesses, part.from, part.to).size()) {
        return absl::InvalidArgumentError(absl::StrFormat("part %d names option %d of %s: none", i,
                                                          part.option, Words(GroupOf(part))));
      }
    }
    std::sort(parts_.begin(), parts_.end(), [](const OptionPart& a, const OptionPart& b) {
      return std::make_pair(GroupOf(a).Key(), a.option) <
             std::make_pair(GroupOf(b).Key(), b.option);
    });
    first_group_.assign(size_t{instance_.phase_count} + 1, 0);
    for (size_t i = 0; i < parts_.size();) {
      DividedGroup group{GroupOf(parts_[i]), i, i, 0};
      while (group.last < parts_.size() && SameKey(GroupOf(parts_[group.last]), group)) {
        const OptionPart& part = parts_[group.last];
        if (group.last > i && part.option == parts_[group.last - 1].option) {
          return absl::InvalidArgumentError(
              absl::StrFormat("two parts for option %d of %s", part.option, Words(group)));
        }
        ++group.last;
      }
      i = group.last;
      ++first_group_[group.phase + 1];
      groups_.push_back(group);
    }
    for (size_t phase = 0; phase < instance_.phase_count; ++phase) {
      first_group_[phase + 1] += first_group_[phase];
    }
    return absl::OkStatus();
  }

  // That each group's parts are all of its blocks, and those of equal recomputes whole ones.
  absl::Status CheckParts() const {
    for (const DividedGroup& group : groups_) {
      const absl::Span<const Option> options =
          Table(group.block_class).Options(group.accesses, group.from, group.to);
      std::map<uint16_t, Wide> sums;  // by recomputes
      Wide sum = 0;
      for (size_t i = group.first; i < group.last; ++i) {
        sums[options[parts_[i].option].recomputes] += parts_[i].part;
        sum += parts_[i].part;
      }
      if (sum != Wide{group.blocks} * kWholePart) {
        return absl::InvalidArgumentError(absl::StrFormat("the parts of %s sum to %s, not %d",
                                                          Words(group), Blocks(sum), group.blocks));
      }
      for (const auto& [recomputes, of_some] : sums) {
        if (of_some % kWholePart == 0) continue;
        return absl::InvalidArgumentError(absl::StrFormat(
            "of %s %s are computed %d times, and a block is as a whole or not at all", Words(group),
            Blocks(of_some), recomputes));
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckShape() const {
    const std::vector<uint64_t>& first = schedule_.first_change;
    if (first.size() != instance_.block_count() + 1 || first.front() != 0 ||
        first.back() != schedule_.changes.size()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("the schedule is not one of %d blocks: %d starts, %d changes",
                          instance_.block_count(), first.size(), schedule_.changes.size()));
    }
    for (size_t block = 0; block + 1 < first.size(); ++block) {
      if (first[block] >= first[block + 1]) {
        return absl::InvalidArgumentError(absl::StrFormat("block %d has no state", block));
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckChanges(size_t block) const {
    const absl::Span<const StateChange> changes = schedule_.Changes(block);
    if (changes[0].phase != instance_.birth[block]) {
      return absl::InvalidArgumentError(
          absl::StrFormat("block %d has its first state in phase %d and is born in %d", block,
                          changes[0].phase, instance_.birth[block]));
    }
    const size_t states = instance_.TableOf(block).state_count();
    for (size_t i = 0; i < changes.size(); ++i) {
      if (changes[i].state >= states) {
        return absl::InvalidArgumentError(
            absl::StrFormat("block %d is in state %d of %d in phase %d", block, changes[i].state,
                            states, changes[i].phase));
      }
      if (changes[i].phase >= instance_.death[block]) {
        return absl::InvalidArgumentError(
            absl::StrFormat("block %d changes state in phase %d and dies in %d", block,
                            changes[i].phase, instance_.death[block]));
      }
      if (i > 0 && changes[i].phase <= changes[i - 1].phase) {
        return absl::InvalidArgumentError(
            absl::StrFormat("block %d changes state in phase %d, not behind %d", block,
                            changes[i].phase, changes[i - 1].phase));
      }
    }
    if (((instance_.ClassOf(block).start_states >> changes[0].state) & 1) == 0) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "block %d may not start in state %d: its class starts in the states of mask %d", block,
          changes[0].state, instance_.ClassOf(block).start_states));
    }
    return absl::OkStatus();
  }

  absl::Status Follow(size_t block) {
    if (absl::Status status = CheckChanges(block); !status.ok()) return status;
    const absl::Span<const StateChange> changes = schedule_.Changes(block);
    const absl::Span<const uint32_t> accesses = instance_.Accesses(block);
    const uint32_t death = instance_.death[block];
    size_t access = 0;
    for (size_t i = 0; i < changes.size(); ++i) {
      const StateIndex state = changes[i].state;
      const uint32_t end = i + 1 < changes.size() ? changes[i + 1].phase : death;
      Occupy(block, state, changes[i].phase, end);
      const absl::Span<const Option> idle = instance_.TableOf(block).Options(0, state, state);
      const bool idle_is_free = idle.size() == 1 && idle[0] == Option();
      // The transition of phase `end - 1` leads to the next state; those before it stay.
      uint32_t phase = changes[i].phase;
      while (phase < end) {
        uint32_t count = 0;
        while (access < accesses.size() && accesses[access] == phase) {
          ++access;
          ++count;
        }
        const bool leaves = phase + 1 == end && end != death;
        const StateIndex to = leaves ? changes[i + 1].state : state;
        if (absl::Status status = Take(block, phase, count, state, to); !status.ok()) {
          return status;
        }
        ++phase;
        if (!idle_is_free) continue;
        // Nothing happens until the next access or the phase that leaves.
        uint32_t next = end == death ? end : std::max(phase, end - 1);
        if (access < accesses.size()) next = std::min(next, std::max(phase, accesses[access]));
        phase = next;
      }
    }
    return absl::OkStatus();
  }

  absl::Status Take(size_t block, uint32_t phase, uint32_t count, StateIndex from, StateIndex to) {
    const OptionTable& table = instance_.TableOf(block);
    if (count > table.accesses_max()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("block %d is read %d times in phase %d, and its table has %d at most",
                          block, count, phase, table.accesses_max()));
    }
    const absl::Span<const Option> options = table.Options(count, from, to);
    if (options.empty()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("block %d in phase %d cannot go from state %d to %d with %d accesses",
                          block, phase, from, to, count));
    }
    const auto begin = groups_.begin() + static_cast<ptrdiff_t>(first_group_[phase]);
    const auto end = groups_.begin() + static_cast<ptrdiff_t>(first_group_[phase + 1]);
    const Group group{phase, instance_.block_class[block], count, from, to};
    const auto divided = std::lower_bound(begin, end, group, KeyLess);
    if (divided != end && SameKey(*divided, group)) {
      ++divided->blocks;
      return absl::OkStatus();
    }
    for (size_t r = 0; r < resources_; ++r) {
      load_[phase * resources_ + r] += Load(instance_.ClassOf(block), options[0], r);
    }
    return absl::OkStatus();
  }

  uint64_t Load(const BlockClass& block_class, const Option& option, size_t resource) const {
    uint64_t load = block_class.bytes * option.per_byte[resource];
    if (resource == instance_.compute_resource) {
      load += block_class.recompute_units * option.recomputes;
    }
    return load;
  }

  // Differences for now: CheckRoom adds them up.
  void Occupy(size_t block, StateIndex state, uint32_t begin, uint32_t end) {
    const TierSet tiers = instance_.TableOf(block).states()[state];
    for (size_t j = 0; j < tiers_; ++j) {
      if (((tiers >> j) & 1) == 0) continue;
      bytes_[begin * tiers_ + j] += instance_.ClassOf(block).bytes;
      bytes_[end * tiers_ + j] -= instance_.ClassOf(block).bytes;
    }
  }

  absl::Status CheckRoom() {
    for (size_t phase = 0; phase < instance_.phase_count; ++phase) {
      for (size_t j = 0; j < tiers_; ++j) {
        uint64_t& bytes = bytes_[phase * tiers_ + j];
        if (phase > 0) bytes += bytes_[(phase - 1) * tiers_ + j];
        if (bytes > instance_.tiers[j].capacity_bytes) {
          return absl::InvalidArgumentError(
              absl::StrFormat("%d bytes in tier %s at the start of phase %d, and it has %d", bytes,
                              instance_.tiers[j].name, phase, instance_.tiers[j].capacity_bytes));
        }
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ScheduleTime> Sum() {
    ScheduleTime time;
    time.phase_picoseconds.resize(instance_.phase_count);
    time.phase_load.resize(load_.size());
    Wide total = 0;
    for (size_t phase = 0; phase < instance_.phase_count; ++phase) {
      Wide longest = 0;
      for (size_t r = 0; r < resources_; ++r) {
        // Below 2^112, and what is left of it behind whole seconds below 2^82.
        Wide load = load_[phase * resources_ + r] * kWholePart;
        for (size_t g = first_group_[phase]; g < first_group_[phase + 1]; ++g) {
          load += DividedLoad(groups_[g], r);
        }
        time.phase_load[phase * resources_ + r] =
            static_cast<uint64_t>(std::min((load + kWholePart - 1) / kWholePart, Wide{UINT64_MAX}));
        const Wide rate = Wide{instance_.resources[r].units_per_second} * kWholePart;
        const Wide seconds = load / rate;
        if (seconds >= kTooLong / kPicoseconds) return TooLong(phase);
        longest = std::max(longest,
                           seconds * kPicoseconds + (load % rate * kPicoseconds + rate - 1) / rate);
      }
      total += longest;
      if (total >= kTooLong) return TooLong(phase);
      time.phase_picoseconds[phase] = static_cast<uint64_t>(longest);
    }
    time.picoseconds = static_cast<uint64_t>(total);
    bytes_.resize(size_t{instance_.phase_count} * tiers_);
    time.phase_bytes = std::move(bytes_);
    return time;
  }

  // In units of 2^-20.
  Wide DividedLoad(const DividedGroup& group, size_t resource) const {
    const absl::Span<const Option> options =
        Table(group.block_class).Options(group.accesses, group.from, group.to);
    Wide load = 0;
    for (size_t i = group.first; i < group.last; ++i) {
      load += Wide{parts_[i].part} *
              Load(instance_.classes[group.block_class], options[parts_[i].option], resource);
    }
    return load;
  }

  const OptionTable& Table(uint32_t block_class) const {
    return instance_.tables[instance_.classes[block_class].table];
  }

  static absl::Status TooLong(size_t phase) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the schedule takes more than 2^63 picoseconds by phase %d", phase));
  }

  static constexpr Wide kPicoseconds = 1'000'000'000'000;
  static constexpr Wide kTooLong = Wide{1} << 63;

  const Instance& instance_;
  const Schedule& schedule_;
  const size_t resources_;
  const size_t tiers_;
  std::vector<Wide> load_;       // [phase][resource], of groups that are not divided
  std::vector<uint64_t> bytes_;  // [phase][tier]
  std::vector<OptionPart> parts_;
  std::vector<DividedGroup> groups_;  // ascending by key
  std::vector<size_t> first_group_;   // by phase, and one more
};

}  // namespace

absl::StatusOr<ScheduleTime> CheckSchedule(const Instance& instance, const Schedule& schedule,
                                           const StopCheck& stop) {
  return Checker(instance, schedule).Run(stop);
}

}  // namespace kvtier::bound
