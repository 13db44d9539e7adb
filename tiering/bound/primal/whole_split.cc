#include "tiering/bound/primal/whole_split.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "tiering/base/check.h"
#include "tiering/bound/option_table.h"

namespace kvtier::bound {
namespace {

// A phase that is this close to its division at will is good enough.
constexpr double kClose = 1e-4;
constexpr double kRounding = 1e-12;
constexpr size_t kImprovementsMax = 32;
// Moves that are tried two at once: those that change least at the shares.
constexpr size_t kPairedMax = 48;
// Choices of how many blocks compute that are all tried, and where each asks for a division.
constexpr uint64_t kWaysMax = 4096;
constexpr uint64_t kDividedWaysMax = 64;
constexpr size_t kLevelsTriedMax = 1024;  // as deep as trying them all goes

}  // namespace

void WholeSplit::Begin(absl::Span<const double> fixed) {
  KVTIER_CHECK(fixed.size() == resources_);
  fixed_.assign(fixed.begin(), fixed.end());
  groups_.clear();
  options_.clear();
  rows_.clear();
  levels_.clear();
  several_ways_ = false;
  levels_are_divided_ = false;
}

void WholeSplit::AddGroup(uint64_t blocks) {
  groups_.push_back({blocks, options_.size(), levels_.size(), options_.size(), levels_.size()});
}

void WholeSplit::AddOption(uint16_t recomputes, absl::Span<const double> seconds) {
  KVTIER_CHECK(!groups_.empty() && seconds.size() == resources_);
  Group& group = groups_.back();
  size_t level = group.first_level;
  while (level < group.last_level && levels_[level].recomputes != recomputes) ++level;
  if (level == group.last_level) {
    levels_.push_back({groups_.size() - 1, 0, recomputes, 0, 0});
    ++group.last_level;
    several_ways_ = several_ways_ || level > group.first_level;
  }
  ++levels_[level].options;
  levels_are_divided_ = levels_are_divided_ || levels_[level].options > 1;
  options_.push_back({level, 0});
  rows_.insert(rows_.end(), seconds.begin(), seconds.end());
  ++group.last_option;
}

double WholeSplit::Priced(const double* seconds) const {
  double cost = 0;
  for (size_t r = 0; r < resources_; ++r) cost += divided_.shares()[r] * seconds[r];
  return cost;
}

double WholeSplit::Solve() {
  divided_.Begin(fixed_);
  std::array<double, kResourcesMax> seconds{};
  for (const Group& group : groups_) {
    divided_.AddGroup();
    for (size_t o = group.first_option; o < group.last_option; ++o) {
      for (size_t r = 0; r < resources_; ++r) {
        seconds[r] = static_cast<double>(group.blocks) * OptionSeconds(o)[r];
      }
      divided_.AddOption(absl::MakeConstSpan(seconds).first(resources_));
    }
  }
  divided_seconds_ = divided_.Solve();
  MakeLevels();
  if (!several_ways_) {
    for (size_t l = 0; l < levels_.size(); ++l) blocks_[l] = groups_[levels_[l].group].blocks;
    return divided_seconds_;
  }
  TakeFewest();
  best_blocks_ = blocks_;
  best_seconds_ = Longest(nullptr, 0);
  Round();
  if (Longest(nullptr, 0) > best_seconds_) {
    blocks_ = best_blocks_;
    Recount();
  }
  Improve();
  best_blocks_ = blocks_;
  best_seconds_ = DivideLevels();
  if (best_seconds_ > divided_seconds_ * (1 + kRounding) && FewWays()) {
    cost_behind_.assign(groups_.size() + 1, 0);
    for (size_t g = groups_.size(); g-- > 0;) {
      double least = std::numeric_limits<double>::infinity();
      for (size_t l = groups_[g].first_level; l < groups_[g].last_level; ++l) {
        least = std::min(least, levels_[l].cost);
      }
      cost_behind_[g] = cost_behind_[g + 1] + static_cast<double>(groups_[g].blocks) * least;
    }
    busy_ = fixed_;
    TryAll(0, groups_[0].blocks, Priced(fixed_.data()));
  }
  blocks_ = best_blocks_;
  Recount();
  return DivideLevels();
}

// Of each level what a block loads, with options mixed as in the division at will, or the cheapest
// if that does not take the level.
void WholeSplit::MakeLevels() {
  level_seconds_.assign(levels_.size() * resources_, 0);
  blocks_.assign(levels_.size(), 0);
  for (size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    for (size_t l = group.first_level; l < group.last_level; ++l) {
      Level& level = levels_[l];
      double taken = 0;
      size_t cheapest = group.last_option;
      level.cost = std::numeric_limits<double>::infinity();
      for (size_t o = group.first_option; o < group.last_option; ++o) {
        if (options_[o].level != l) continue;
        taken += divided_.parts(g)[o - group.first_option];
        const double cost = Priced(OptionSeconds(o));
        if (cost >= level.cost) continue;
        level.cost = cost;
        cheapest = o;
      }
      for (size_t o = group.first_option; o < group.last_option; ++o) {
        if (options_[o].level != l) continue;
        const double whole = o == cheapest ? 1 : 0;
        options_[o].part =
            taken > kRounding ? divided_.parts(g)[o - group.first_option] / taken : whole;
        for (size_t r = 0; r < resources_; ++r) {
          level_seconds_[l * resources_ + r] += options_[o].part * OptionSeconds(o)[r];
        }
      }
      level.wanted = taken * static_cast<double>(group.blocks);
    }
  }
}

void WholeSplit::AddBusy(size_t level, double blocks) {
  for (size_t r = 0; r < resources_; ++r) busy_[r] += blocks * LevelSeconds(level)[r];
}

void WholeSplit::Recount() {
  busy_ = fixed_;
  for (size_t l = 0; l < levels_.size(); ++l) AddBusy(l, static_cast<double>(blocks_[l]));
}

double WholeSplit::LongestWith(size_t level, double blocks, double* priced) const {
  double longest = 0;
  *priced = 0;
  for (size_t r = 0; r < resources_; ++r) {
    const double busy = busy_[r] + blocks * LevelSeconds(level)[r];
    longest = std::max(longest, busy);
    *priced += divided_.shares()[r] * busy;
  }
  return longest;
}

double WholeSplit::Longest(const Move* moves, size_t count) const {
  double longest = 0;
  for (size_t r = 0; r < resources_; ++r) {
    double busy = busy_[r];
    for (size_t m = 0; m < count; ++m) {
      busy += LevelSeconds(moves[m].to)[r] - LevelSeconds(moves[m].from)[r];
    }
    longest = std::max(longest, busy);
  }
  return longest;
}

void WholeSplit::TakeFewest() {
  for (const Group& group : groups_) {
    size_t fewest = group.first_level;
    for (size_t l = group.first_level; l < group.last_level; ++l) {
      blocks_[l] = 0;
      if (levels_[l].recomputes < levels_[fewest].recomputes) fewest = l;
    }
    blocks_[fewest] = group.blocks;
  }
  Recount();
}

// Whole blocks go where the division wants them. Those that it divides are placed one after
// another, the longest first, where the phase ends soonest if the others were divided as they were.
void WholeSplit::Round() {
  busy_ = fixed_;
  std::vector<std::pair<double, size_t>> open;  // minus how much it matters, and the group
  for (size_t g = 0; g < groups_.size(); ++g) {
    uint64_t placed = 0;
    double matters = 0;
    for (size_t l = groups_[g].first_level; l < groups_[g].last_level; ++l) {
      blocks_[l] = std::min(groups_[g].blocks - placed,
                            static_cast<uint64_t>(std::floor(levels_[l].wanted + 1e-9)));
      placed += blocks_[l];
      AddBusy(l, levels_[l].wanted);
      for (size_t r = 0; r < resources_; ++r) matters = std::max(matters, LevelSeconds(l)[r]);
    }
    if (placed < groups_[g].blocks) open.emplace_back(-matters, g);
  }
  std::sort(open.begin(), open.end());
  for (const auto& [minus_matters, g] : open) {
    const Group& group = groups_[g];
    uint64_t left = group.blocks;
    for (size_t l = group.first_level; l < group.last_level; ++l) {
      AddBusy(l, static_cast<double>(blocks_[l]) - levels_[l].wanted);
      left -= blocks_[l];
    }
    for (; left > 0; --left) {
      size_t best = group.first_level;
      double best_priced = 0;
      double best_longest = LongestWith(best, 1, &best_priced);
      for (size_t l = group.first_level + 1; l < group.last_level; ++l) {
        double priced = 0;
        const double longest = LongestWith(l, 1, &priced);
        if (longest > best_longest || (longest == best_longest && priced >= best_priced)) continue;
        best = l;
        best_longest = longest;
        best_priced = priced;
      }
      ++blocks_[best];
      AddBusy(best, 1);
    }
  }
  Recount();
}

void WholeSplit::Improve() {
  const double close = divided_seconds_ * (1 + kClose);
  if (Longest(nullptr, 0) <= close) return;
  std::vector<Move> moves;
  for (const Group& group : groups_) {
    for (size_t from = group.first_level; from < group.last_level; ++from) {
      for (size_t to = group.first_level; to < group.last_level; ++to) {
        if (from != to) moves.push_back({from, to});
      }
    }
  }
  std::stable_sort(moves.begin(), moves.end(), [this](const Move& a, const Move& b) {
    return std::abs(levels_[a.to].cost - levels_[a.from].cost) <
           std::abs(levels_[b.to].cost - levels_[b.from].cost);
  });
  for (size_t i = 0; i < kImprovementsMax && Longest(nullptr, 0) > close; ++i) {
    if (!ApplyBest(moves) && !ApplyBestPair(moves)) return;
  }
}

void WholeSplit::Apply(const Move& move) {
  --blocks_[move.from];
  ++blocks_[move.to];
  AddBusy(move.from, -1);
  AddBusy(move.to, 1);
}

// False if none helps.
bool WholeSplit::ApplyBest(absl::Span<const Move> moves) {
  double least = Longest(nullptr, 0) * (1 - kRounding);
  const Move* best = nullptr;
  for (const Move& move : moves) {
    if (blocks_[move.from] == 0) continue;
    const double longest = Longest(&move, 1);
    if (longest >= least) continue;
    least = longest;
    best = &move;
  }
  if (best != nullptr) Apply(*best);
  return best != nullptr;
}

bool WholeSplit::ApplyBestPair(absl::Span<const Move> moves) {
  std::array<Move, kPairedMax> possible;
  size_t count = 0;
  for (const Move& move : moves) {
    if (count < kPairedMax && blocks_[move.from] > 0) possible[count++] = move;
  }
  double least = Longest(nullptr, 0) * (1 - kRounding);
  std::array<Move, 2> best{};
  bool found = false;
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = i + 1; j < count; ++j) {
      const std::array<Move, 2> pair = {possible[i], possible[j]};
      if (pair[0].from == pair[1].from && blocks_[pair[0].from] < 2) continue;
      const double longest = Longest(pair.data(), 2);
      if (longest >= least) continue;
      least = longest;
      best = pair;
      found = true;
    }
  }
  if (!found) return false;
  for (const Move& move : best) Apply(move);
  return true;
}

// Whether there are few enough choices of how many blocks take which level.
bool WholeSplit::FewWays() const {
  if (levels_.size() > kLevelsTriedMax) return false;
  const uint64_t most = levels_are_divided_ ? kDividedWaysMax : kWaysMax;
  uint64_t ways = 1;
  for (const Group& group : groups_) {
    uint64_t of_group = 1;  // blocks + i over i
    for (size_t i = 1; i < group.last_level - group.first_level; ++i) {
      if (group.blocks > most) return false;
      of_group = of_group * (group.blocks + i) / i;
      if (of_group > most) return false;
    }
    ways *= of_group;
    if (ways > most) return false;
  }
  return true;
}

// All choices for `level`, which `left` blocks of its group have not passed, and for those behind
// it; `priced` is what those before it cost. Leaves out what the shares prove to be no better.
void WholeSplit::TryAll(size_t level, uint64_t left, double priced) {
  if (level == levels_.size()) {
    const double seconds = DivideLevels();
    if (seconds >= best_seconds_ * (1 - kRounding)) return;
    best_seconds_ = seconds;
    best_blocks_ = blocks_;
    return;
  }
  const size_t g = levels_[level].group;
  if (priced + cost_behind_[g + 1] >= best_seconds_ * (1 - kRounding)) return;
  const bool last = level + 1 == groups_[g].last_level;
  std::array<double, kResourcesMax> before{};
  std::copy(busy_.begin(), busy_.end(), before.begin());
  for (uint64_t taken = last ? left : 0; taken <= left; ++taken) {
    std::copy_n(before.begin(), resources_, busy_.begin());
    AddBusy(level, static_cast<double>(taken));
    blocks_[level] = taken;
    const uint64_t next = !last ? left - taken : g + 1 < groups_.size() ? groups_[g + 1].blocks : 0;
    TryAll(level + 1, next, priced + static_cast<double>(taken) * levels_[level].cost);
  }
  std::copy_n(before.begin(), resources_, busy_.begin());
}

// The phase's time with blocks_ and busy_, the options of each level mixed in the best way.
double WholeSplit::DivideLevels() {
  if (!levels_are_divided_) return Longest(nullptr, 0);
  within_.Begin(fixed_);
  std::array<double, kResourcesMax> seconds{};
  for (size_t l = 0; l < levels_.size(); ++l) {
    const Group& group = groups_[levels_[l].group];
    within_.AddGroup();
    for (size_t o = group.first_option; o < group.last_option; ++o) {
      if (options_[o].level != l) continue;
      for (size_t r = 0; r < resources_; ++r) {
        seconds[r] = static_cast<double>(blocks_[l]) * OptionSeconds(o)[r];
      }
      within_.AddOption(absl::MakeConstSpan(seconds).first(resources_));
    }
  }
  const double time = within_.Solve();
  std::vector<size_t> seen(levels_.size());
  for (GroupOption& option : options_) {
    option.part = within_.parts(option.level)[seen[option.level]++];
  }
  return time;
}

}  // namespace kvtier::bound
