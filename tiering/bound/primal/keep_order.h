// Which block in a tier is least worth keeping there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "tiering/bound/instance.h"
#include "tiering/bound/primal/cost_to_go.h"
#include "tiering/bound/primal/path_prices.h"

namespace kvtier::bound {

// Where a block is while phases are gone through.
struct Standing {
  StateIndex state = 0;
  bool taken = false;    // out of KeepOrder for now
  uint32_t version = 0;  // counts the times that what was known of it became out of date
  uint64_t next = 0;     // its first access that is not behind, as CostToGo::Place has it
};

// Blocks by what it would cost at the bound's prices, for each byte, to be in another state instead
// of staying up to the next access. For one pair of states of a table that changes with time for
// all blocks by the same amount, the difference of the states' room prices, but for chances to move
// back, which get fewer and never more: so a heap's least is the least there is once it has been
// asked again. A block counts until its version changes; entries of old versions go when they are
// met or too many. What is out of time and dead must have changed its version. Not thread-safe.
class KeepOrder {
 public:
  // All stay valid.
  KeepOrder(const Instance& instance, const PathPrices& prices, const CostToGo& costs,
            std::vector<Standing>& standings);

  // From now on, the start of `phase`, it may be asked to leave the state that it stands in.
  void Add(uint32_t block, uint32_t phase);

  struct Leaver {
    uint32_t block = 0;
    StateIndex to = 0;
    double keep = 0;  // seconds a byte
  };
  // The one that leaves `tier` at the start of `phase` for the least, among the first few for
  // which `may(block, to)`; it is taken.
  std::optional<Leaver> Take(size_t tier, uint32_t phase,
                             const std::function<bool(uint32_t, StateIndex)>& may);
  // Nothing is taken any more; what has not changed its version is there again.
  void Release();

 private:
  struct Entry {
    double key = 0;
    uint32_t block = 0;
    uint32_t version = 0;
    // For heaps with the least in front.
    bool operator<(const Entry& other) const {
      return key != other.key ? key > other.key : block > other.block;
    }
  };
  struct Leave {
    size_t table = 0;
    StateIndex from = 0;
    StateIndex to = 0;
    TierSet frees = 0;
    size_t entries_max = 0;  // more are cleared of what is out of date
    std::vector<Entry> heap;
  };
  struct Aside {
    size_t leave = 0;
    Entry entry;
  };

  // keep() less what changes with time for all.
  double Key(const Leave& leave, uint32_t block, uint32_t phase) const;
  static void Push(Leave& leave, const Entry& entry);
  static void Pop(Leave& leave);
  void SetAside(size_t number);
  // Whether there is one in front that is up to date, and not taken.
  bool Settle(size_t number, uint32_t phase);

  const Instance& instance_;
  const PathPrices& prices_;
  const CostToGo& costs_;
  std::vector<Standing>& standings_;
  std::vector<Leave> leaves_;
  std::vector<std::vector<size_t>> leaves_of_state_;  // [table * kStatesMax + from]
  std::vector<std::vector<size_t>> leaves_of_tier_;
  std::vector<Aside> aside_;
  std::vector<uint32_t> taken_;
};

}  // namespace kvtier::bound
