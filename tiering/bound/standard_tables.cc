#include "tiering/bound/standard_tables.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <queue>
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
  TierSet seen = 0;  // tiers that had a copy at some time of the phase
  bool in_hand = false;
  bool served = false;  // an access, by what brought the data into the GPU's hand
};

void Charge(Option& option, uint8_t resource) {
  if (resource != kNoResource) ++option.per_byte[resource];
}

// All cheapest ways through one phase from one state, those with the fewest loads first: loads only
// grow, so what is reached later dominates nothing that was, and a way that comes back to a
// situation is dominated. A situation's ways go on alike, so one that is above a mix of others
// stays above it.
//
// Data has to come into the GPU's hand once at most. At any prices all accesses but that one are
// served best by one and the same source: the cheapest of those that are there at some time.
class PhaseSearch {
 public:
  PhaseSearch(const TableSpec& spec, TierSet start) : spec_(spec), start_(start) {
    labels_.resize(size_t{1} << (2 * spec.tiers.size() + 2));
    Reach({.copies = start, .seen = start}, Option{});
    while (!open_.empty()) {
      const Open next = open_.top();
      open_.pop();
      if (AddToHull(labels_[Index(next.at)], next.cost)) Expand(next.at, next.cost);
    }
  }

  // The ways to end with exactly these copies and accesses served.
  std::vector<Option> Ways(TierSet end, size_t accesses) const {
    std::vector<Option> ways;
    for (unsigned set = 0; set < 1u << spec_.tiers.size(); ++set) {
      const auto seen = static_cast<TierSet>(set);
      for (const bool in_hand : {false, true}) {
        for (const bool served : {false, true}) {
          if (served && accesses == 0) continue;
          const size_t more = accesses - (served ? 1 : 0);
          for (const Option& option :
               labels_[Index({.copies = end, .seen = seen, .in_hand = in_hand, .served = served})])
            AddServed(ways, option, seen, more);
        }
      }
    }
    return ways;
  }

 private:
  struct Open {
    uint32_t loads;  // of all resources together
    Situation at;
    Option cost;
    bool operator<(const Open& other) const { return loads > other.loads; }
  };

  size_t Index(const Situation& at) const {
    return ((at.copies << spec_.tiers.size() | at.seen) * size_t{2} + (at.in_hand ? 1 : 0)) * 2 +
           (at.served ? 1 : 0);
  }

  bool Serves(size_t tier) const {
    return spec_.tiers[tier].serves_reads && ((start_ >> tier & 1) != 0 || !spec_.strict);
  }

  void Read(Option& option, size_t tier) const {
    Charge(option, spec_.tiers[tier].memory);
    Charge(option, spec_.tiers[tier].link_in);
  }

  // The way `option`, and so many accesses more from any one source.
  void AddServed(std::vector<Option>& ways, const Option& option, TierSet seen,
                 size_t accesses) const {
    if (accesses == 0) {
      AddToHull(ways, option);
      return;
    }
    if (spec_.recompute) {
      Option recomputed = option;
      recomputed.recomputes = static_cast<uint16_t>(recomputed.recomputes + accesses);
      AddToHull(ways, recomputed);
    }
    for (size_t tier = 0; tier < spec_.tiers.size(); ++tier) {
      if ((seen >> tier & 1) == 0 || !Serves(tier)) continue;
      Option read = option;
      for (size_t i = 0; i < accesses; ++i) Read(read, tier);
      AddToHull(ways, read);
    }
  }

  void Reach(const Situation& at, const Option& cost) {
    const uint32_t loads =
        std::accumulate(cost.per_byte.begin(), cost.per_byte.end(), uint32_t{cost.recomputes});
    open_.push({loads, at, cost});
  }

  // The data comes into the GPU's hand, and serves an access on the way if it may.
  void TakeInHand(Situation at, const Option& cost, bool may_serve) {
    if (at.in_hand) return;
    at.in_hand = true;
    Reach(at, cost);
    at.served = true;
    if (may_serve) Reach(at, cost);
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
    Read(read, tier);
    TakeInHand(at, read, Serves(tier));
    for (size_t target = 0; target < spec_.tiers.size(); ++target) {
      if ((at.copies >> target & 1) != 0) continue;
      const TierPorts& to = spec_.tiers[target];
      // What is in hand then is stored from there.
      if (spec_.far_copies_through_gpu && !from.on_gpu && !to.on_gpu) continue;
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
    at.seen = static_cast<TierSet>(at.seen | 1u << tier);
    return at;
  }

  const TableSpec& spec_;
  TierSet start_;
  std::vector<std::vector<Option>> labels_;
  std::priority_queue<Open> open_;
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
  TableSpec idle = spec;
  idle.recompute = false;
  for (StateIndex from = 0; from < table.state_count(); ++from) {
    const PhaseSearch with_accesses(spec, spec.states[from]), without(idle, spec.states[from]);
    for (size_t accesses = 0; accesses <= spec.accesses_max; ++accesses) {
      const PhaseSearch& search = accesses > 0 ? with_accesses : without;
      for (StateIndex to = 0; to < table.state_count(); ++to) {
        for (const Option& option : LowerHull(search.Ways(spec.states[to], accesses)))
          table.Add(accesses, from, to, option);
      }
    }
  }
  return table;
}

}  // namespace kvtier::bound
