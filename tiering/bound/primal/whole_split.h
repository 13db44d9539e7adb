// How many whole blocks are computed again so that a phase ends soon, and how the rest is divided.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "tiering/bound/primal/phase_split.h"

namespace kvtier::bound {

// As phase_split.h, but a block is computed again as a whole or not at all: only options that
// compute equally often may share a block's bytes. The division without that rule comes first; its
// parts are rounded to whole blocks, one group after another with the phase's time in view; then
// blocks change sides, alone or two at once, as long as that helps. Where there are few ways to
// choose, all that could be better are tried, which is exact. Never worse than computing as little
// as there is to choose. Buffers are kept from call to call. Not thread-safe.
class WholeSplit {
 public:
  explicit WholeSplit(size_t resources)
      : resources_(resources), fixed_(resources), divided_(resources), within_(resources) {}

  // Starts a phase; `fixed` is how long each resource is busy whatever is chosen, seconds.
  void Begin(absl::Span<const double> fixed);
  void AddGroup(uint64_t blocks);
  // Adds an option of the last group: how often it computes a block, and how long one block keeps
  // each resource busy.
  void AddOption(uint16_t recomputes, absl::Span<const double> seconds);

  // Returns the phase's time in seconds.
  double Solve();

  // Of the last Solve. The time if blocks could be divided at will, which is no more, and what a
  // second of each resource is worth there.
  double divided_seconds() const { return divided_seconds_; }
  absl::Span<const double> shares() const { return divided_.shares(); }
  // By option of a group: how many blocks take it or others that compute equally often, and which
  // part of their bytes takes this one.
  uint64_t blocks(size_t group, size_t option) const {
    return blocks_[options_[groups_[group].first_option + option].level];
  }
  double part(size_t group, size_t option) const {
    return options_[groups_[group].first_option + option].part;
  }

 private:
  struct Group {
    uint64_t blocks = 0;
    size_t first_option = 0;
    size_t first_level = 0;
    size_t last_option = 0;  // behind the last
    size_t last_level = 0;
  };
  struct GroupOption {
    size_t level = 0;
    double part = 0;  // of the level
  };
  // Options of a group that compute equally often.
  struct Level {
    size_t group = 0;
    size_t options = 0;
    uint16_t recomputes = 0;
    double wanted = 0;  // blocks, in the division at will
    double cost = 0;    // of a block's cheapest option at the shares
  };
  // One block from a level to another of its group.
  struct Move {
    size_t from = 0;
    size_t to = 0;
  };

  const double* OptionSeconds(size_t option) const { return &rows_[option * resources_]; }
  const double* LevelSeconds(size_t level) const { return &level_seconds_[level * resources_]; }
  double Priced(const double* seconds) const;
  double LongestWith(size_t level, double blocks, double* priced) const;
  double Longest(const Move* moves, size_t count) const;
  void AddBusy(size_t level, double blocks);
  void Recount();

  void MakeLevels();
  void Round();
  void TakeFewest();
  void Improve();
  bool ApplyBest(absl::Span<const Move> moves);
  bool ApplyBestPair(absl::Span<const Move> moves);
  void Apply(const Move& move);
  bool FewWays() const;
  void TryAll(size_t level, uint64_t left, double priced);
  double DivideLevels();

  const size_t resources_;
  std::vector<double> fixed_;
  std::vector<Group> groups_;
  std::vector<GroupOption> options_;
  std::vector<double> rows_;  // [option][resource], of one block
  std::vector<Level> levels_;
  bool several_ways_ = false;        // some group has several levels
  bool levels_are_divided_ = false;  // some level has several options

  PhaseSplit divided_;  // at will
  PhaseSplit within_;   // of levels whose blocks are counted
  double divided_seconds_ = 0;

  std::vector<double> level_seconds_;  // [level][resource], of one block
  std::vector<uint64_t> blocks_;       // by level, those being tried
  std::vector<double> busy_;           // by resource, with blocks_
  std::vector<double> cost_behind_;    // by group: the least that it and those behind it cost
  std::vector<uint64_t> best_blocks_;
  double best_seconds_ = 0;
};

}  // namespace kvtier::bound
