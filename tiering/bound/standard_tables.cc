#include "tiering/bound/standard_tables.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/bound/option_hull.h"

namespace kvtier::bound {
namespace {

// Everything that a phase has come to so far, but for what it has cost.
struct Situation {
  TierSet copies = 0;
  bool in_hand = false;
  size_t served = 0;
};

void Charge(Option& option, uint8_t resource) {
  if (resource != kNoResource) ++option.per_byte[resource];
}

// All cheapest ways through one phase from one state, by label correcting: loads only grow, so a
// way that comes back to a situation is dominated, and the search ends.
class PhaseSearch {
 public:
  PhaseSearch(const TableSpec& spec, TierSet start) : spec_(spec), start_(start) {
    labels_.resize((size_t{1} << spec.tiers.size()) * 2 * (spec.accesses_max + 1));
    Reach({.copies = start}, Option{});
    while (!open_.empty()) {
      const Open next = open_.back();
      open_.pop_back();
      // A cheaper way to the same situation may have been found since.
      const std::vector<Option>& label = labels_[Index(next.at)];
      if (std::find(label.begin(), label.end(), next.cost) != label.end())
        Expand(next.at, next.cost);
    }
  }

  // The ways to end with exactly these copies and accesses served.
  std::vector<Option> Ways(TierSet end, size_t accesses) const {
    std::vector<Option> ways;
    for (const bool in_hand : {false, true}) {
      for (const Option& option :
           labels_[Index({.copies = end, .in_hand = in_hand, .served = accesses})])
        AddUndominated(ways, option);
    }
    return ways;
  }

 private:
  struct Open {
    Situation at;
    Option cost;
  };

  size_t Index(const Situation& at) const {
    return (at.copies * 2 + (at.in_hand ? 1 : 0)) * (spec_.accesses_max + 1) + at.served;
  }

  void Reach(const Situation& at, const Option& cost) {
    if (AddUndominated(labels_[Index(at)], cost)) open_.push_back({at, cost});
  }

  // The data comes into the GPU's hand, and serves an access on the way if it may.
  void TakeInHand(Situation at, const Option& cost, bool may_serve) {
    at.in_hand = true;
    Reach(at, cost);
    if (!may_serve || at.served == spec_.accesses_max) return;
    ++at.served;
    Reach(at, cost);
  }

  void Expand(const Situation& at, const Option& cost) {
    if (spec_.recompute) {
      Option dearer = cost;
      ++dearer.recomputes;
      TakeInHand(at, dearer, true);
    }
    for (size_t tier = 0; tier < spec_.tiers.size(); ++tier) {
      if ((at.copies >> tier & 1) != 0) {
        LeaveFrom(tier, at, cost);
      } else if (at.in_hand) {
        Option dearer = cost;
        Charge(dearer, spec_.tiers[tier].link_out);
        Charge(dearer, spec_.tiers[tier].memory);
        Reach(With(at, tier), dearer);
      }
    }
  }

  // What can be done with the copy in `tier`.
  void LeaveFrom(size_t tier, const Situation& at, const Option& cost) {
    const TierPorts& from = spec_.tiers[tier];
    Option read = cost;
    Charge(read, from.memory);
    Charge(read, from.link_in);
    const bool there_at_start = (start_ >> tier & 1) != 0;
    TakeInHand(at, read, from.serves_reads && (there_at_start || !spec_.strict));
    for (size_t target = 0; target < spec_.tiers.size(); ++target) {
      if ((at.copies >> target & 1) != 0) continue;
      const TierPorts& to = spec_.tiers[target];
      Option copied = cost;
      Charge(copied, from.memory);
      Charge(copied, to.memory);
      if (to.on_gpu) Charge(copied, from.link_in);
      if (from.on_gpu) Charge(copied, to.link_out);
      Reach(With(at, target), copied);
    }
    Situation dropped = at;
    dropped.copies = static_cast<TierSet>(at.copies & ~(1u << tier));
    Reach(dropped, cost);
  }

  static Situation With(Situation at, size_t tier) {
    at.copies = static_cast<TierSet>(at.copies | 1u << tier);
    return at;
  }

  const TableSpec& spec_;
  TierSet start_;
  std::vector<std::vector<Option>> labels_;
  std::vector<Open> open_;
};

absl::Status CheckSpec(const TableSpec& spec) {
  if (spec.tiers.empty() || spec.tiers.size() > kTiersMax)
    return absl::InvalidArgumentError(
        absl::StrFormat("a table of %d tiers; it can have 1 to %d", spec.tiers.size(), kTiersMax));
  if (spec.states.empty() || spec.states.size() > kStatesMax)
    return absl::InvalidArgumentError(absl::StrFormat("a table of %d states; it can have 1 to %d",
                                                      spec.states.size(), kStatesMax));
  if (spec.accesses_max > kAccessesMax)
    return absl::InvalidArgumentError(absl::StrFormat(
        "a table for %d accesses in a phase; the limit is %d", spec.accesses_max, kAccessesMax));
  for (size_t i = 0; i < spec.tiers.size(); ++i) {
    for (const uint8_t port :
         {spec.tiers[i].memory, spec.tiers[i].link_in, spec.tiers[i].link_out}) {
      if (port != kNoResource && port >= kResourcesMax)
        return absl::InvalidArgumentError(absl::StrFormat(
            "tier %d loads resource %d; the last there can be is %d", i, port, kResourcesMax - 1));
    }
  }
  for (size_t i = 0; i < spec.states.size(); ++i) {
    if (spec.states[i] >> spec.tiers.size() != 0)
      return absl::InvalidArgumentError(absl::StrFormat(
          "state %d is tier set %d, and there are %d tiers", i, spec.states[i], spec.tiers.size()));
    if (std::find(spec.states.begin(), spec.states.begin() + static_cast<ptrdiff_t>(i),
                  spec.states[i]) != spec.states.begin() + static_cast<ptrdiff_t>(i))
      return absl::InvalidArgumentError(
          absl::StrFormat("state %d is tier set %d a second time", i, spec.states[i]));
  }
  if (spec.strict && spec.recompute)
    return absl::InvalidArgumentError("a strict table cannot have accesses recomputed");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OptionTable> MakeTable(const TableSpec& spec) {
  const absl::Status status = CheckSpec(spec);
  if (!status.ok()) return status;
  OptionTable table(spec.states, spec.accesses_max);
  for (StateIndex from = 0; from < spec.states.size(); ++from) {
    const PhaseSearch search(spec, spec.states[from]);
    for (size_t accesses = 0; accesses <= spec.accesses_max; ++accesses) {
      for (StateIndex to = 0; to < spec.states.size(); ++to) {
        for (const Option& option : LowerHull(search.Ways(spec.states[to], accesses)))
          table.Add(accesses, from, to, option);
      }
    }
  }
  return table;
}

}  // namespace kvtier::bound
