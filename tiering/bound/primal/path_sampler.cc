#include "tiering/bound/primal/path_sampler.h"

#include <algorithm>
#include <cmath>

#include "tiering/base/check.h"

namespace kvtier::bound {
namespace {

// Of what is possible nothing weighs less than this part of the heaviest, so that no path is lost
// to underflow; products of two such parts are above what a double can hold.
constexpr double kLeast = 1e-120;

double Possible(double weight, double heaviest) { return std::max(weight, kLeast * heaviest); }

// A state with probability in proportion to its weight.
StateIndex DrawState(absl::Span<const double> weights, Rng& rng) {
  double sum = 0;
  for (const double weight : weights) sum += weight;
  KVTIER_CHECK(sum > 0);
  double left = rng.Unit() * sum;
  StateIndex drawn = 0;
  for (StateIndex k = 0; k < static_cast<StateIndex>(weights.size()); ++k) {
    if (weights[k] <= 0) continue;
    drawn = k;
    left -= weights[k];
    if (left < 0) break;
  }
  return drawn;
}

}  // namespace

PathSampler::PathSampler(const Instance& instance, const PathPrices& prices, double temperature,
                         double move_weight)
    : instance_(&instance), prices_(&prices), temperature_(temperature), move_weight_(move_weight) {
  runs_.resize(instance.tables.size());
  for (size_t table = 0; table < instance.tables.size(); ++table) FillRuns(table);
}

void PathSampler::FillRuns(size_t table) {
  Runs& runs = runs_[table];
  const size_t states = instance_->tables[table].state_count();
  const size_t phases = instance_->phase_count;
  runs.states = states;
  // A class of the table, for the edges' prices: idle edges cost each byte the same.
  uint32_t block_class = 0xffffffff;
  for (uint32_t c = 0; c < instance_->classes.size(); ++c) {
    if (instance_->classes[c].table == table) block_class = c;
  }
  if (block_class == 0xffffffff) return;
  const double scale =
      1 / (temperature_ * static_cast<double>(instance_->classes[block_class].bytes));
  runs.weight.emplace_back(phases * states * states, 0.0);
  runs.stay.emplace_back(phases * states, 0.0);
  for (uint32_t phase = 0; phase < phases; ++phase) {
    double* const weight = &runs.weight[0][phase * states * states];
    std::array<double, kStatesMax * kStatesMax> cost;
    double least = std::numeric_limits<double>::infinity();
    for (StateIndex from = 0; from < static_cast<StateIndex>(states); ++from) {
      const double room = prices_->Stay(table, from, phase, phase + 1) / temperature_;
      for (StateIndex to = 0; to < static_cast<StateIndex>(states); ++to) {
        double& here = cost[from * states + to];
        here = std::numeric_limits<double>::infinity();
        if (instance_->tables[table].Options(0, from, to).empty()) continue;
        here = room + scale * prices_->Edge(block_class, phase, 0, from, to);
        least = std::min(least, here);
      }
    }
    for (size_t i = 0; i < states * states; ++i) {
      if (std::isfinite(cost[i]))
        weight[i] =
            Possible(std::exp(least - cost[i]) * (i % (states + 1) == 0 ? 1 : move_weight_), 1);
    }
    for (size_t k = 0; k < states; ++k) runs.stay[0][phase * states + k] = weight[k * states + k];
  }
  for (size_t level = 1; (size_t{1} << level) <= phases; ++level) {
    const size_t count = phases >> level;
    std::vector<double> weight(count * states * states, 0.0);
    std::vector<double> stay(count * states, 0.0);
    for (size_t run = 0; run < count; ++run) {
      const double* const left = &runs.weight[level - 1][2 * run * states * states];
      const double* const right = left + states * states;
      double* const both = &weight[run * states * states];
      double heaviest = 0;
      for (size_t from = 0; from < states; ++from) {
        for (size_t to = 0; to < states; ++to) {
          double sum = 0;
          for (size_t mid = 0; mid < states; ++mid) {
            sum += left[from * states + mid] * right[mid * states + to];
          }
          both[from * states + to] = sum;
          heaviest = std::max(heaviest, sum);
        }
      }
      if (heaviest <= 0) continue;
      for (size_t i = 0; i < states * states; ++i) {
        if (both[i] > 0) both[i] = Possible(both[i], heaviest) / heaviest;
      }
      for (size_t k = 0; k < states; ++k) {
        stay[run * states + k] = runs.stay[level - 1][2 * run * states + k] *
                                 runs.stay[level - 1][(2 * run + 1) * states + k] / heaviest;
      }
    }
    runs.weight.push_back(std::move(weight));
    runs.stay.push_back(std::move(stay));
  }
}

void PathSampler::Segments(size_t block, std::vector<Buffers::Segment>& segments) const {
  segments.clear();
  const uint32_t levels =
      static_cast<uint32_t>(runs_[instance_->ClassOf(block).table].weight.size());
  const auto idle = [&](uint32_t begin, uint32_t end) {
    while (begin < end) {
      uint32_t level = 0;
      while (level + 1 < levels && begin % (2u << level) == 0 && begin + (2u << level) <= end) {
        ++level;
      }
      segments.push_back({begin, 0, level});
      begin += 1u << level;
    }
  };
  const absl::Span<const uint32_t> accesses = instance_->Accesses(block);
  const uint32_t last = instance_->death[block] - 1;
  uint32_t begin = instance_->birth[block];
  for (size_t i = 0; i < accesses.size();) {
    const uint32_t phase = accesses[i];
    uint32_t count = 0;
    for (; i < accesses.size() && accesses[i] == phase; ++i) ++count;
    idle(begin, phase);
    segments.push_back({phase, count, phase == last ? kLast : kAccess});
    begin = phase + 1;
  }
  if (begin <= last) {
    idle(begin, last);
    segments.push_back({last, 0, kLast});
  }
}

void PathSampler::EdgeWeights(uint32_t block_class, const Buffers::Segment& segment,
                              Matrix& weight) const {
  const BlockClass& described = instance_->classes[block_class];
  const OptionTable& table = instance_->tables[described.table];
  const size_t states = table.state_count();
  const double scale = 1 / (temperature_ * static_cast<double>(described.bytes));
  double least = std::numeric_limits<double>::infinity();
  for (StateIndex from = 0; from < static_cast<StateIndex>(states); ++from) {
    const double room =
        prices_->Stay(described.table, from, segment.phase, segment.phase + 1) / temperature_;
    for (StateIndex to = 0; to < static_cast<StateIndex>(states); ++to) {
      double& cost = weight[from * states + to];
      cost = std::numeric_limits<double>::infinity();
      // The last state counts to the end.
      if (segment.level == kLast && to != from) continue;
      if (table.Options(segment.accesses, from, to).empty()) continue;
      cost = room + scale * prices_->Edge(block_class, segment.phase, segment.accesses, from, to);
      least = std::min(least, cost);
    }
  }
  for (size_t i = 0; i < states * states; ++i) {
    weight[i] = std::isfinite(weight[i]) ? Possible(std::exp(least - weight[i]), 1) : 0;
  }
}

// Inside a run of which the first and last state are given. The common case, staying throughout, is
// settled at once; `leaves` says that it is not that.
void PathSampler::DrawInside(const Runs& runs, uint32_t level, uint32_t run, StateIndex from,
                             StateIndex to, bool leaves, Rng& rng,
                             std::vector<StateChange>& path) const {
  const size_t states = runs.states;
  if (level == 0) {
    if (to != from) path.push_back({run + 1, to});
    return;
  }
  if (from == to && !leaves) {
    const double all = runs.weight[level][run * states * states + from * states + to];
    if (rng.Unit() * all < runs.stay[level][run * states + from]) return;
  }
  const uint32_t left_run = 2 * run, right_run = 2 * run + 1;
  const double* const left = &runs.weight[level - 1][left_run * states * states];
  const double* const right = &runs.weight[level - 1][right_run * states * states];
  const double left_stays = runs.stay[level - 1][left_run * states + from];
  const double right_stays = runs.stay[level - 1][right_run * states + from];
  std::array<double, kStatesMax> weights;
  double sum = 0;
  for (size_t mid = 0; mid < states; ++mid) {
    weights[mid] = left[from * states + mid] * right[mid * states + to];
    if (from == to && mid == from) {
      weights[mid] = std::max(0.0, weights[mid] - left_stays * right_stays);
    }
    sum += weights[mid];
  }
  if (sum <= 0) return;  // only staying is possible, but for rounding
  const StateIndex mid = DrawState(absl::MakeConstSpan(weights).first(states), rng);
  if (from == to && mid == from) {
    const double left_moves = std::max(0.0, left[from * states + from] - left_stays);
    const double right_moves = std::max(0.0, right[from * states + from] - right_stays);
    const double which[] = {left_moves * right_stays, left_stays * right_moves,
                            left_moves * right_moves};
    if (which[0] + which[1] + which[2] <= 0) return;
    const StateIndex drawn = DrawState(which, rng);
    if (drawn != 1) DrawInside(runs, level - 1, left_run, from, mid, true, rng, path);
    if (drawn != 0) DrawInside(runs, level - 1, right_run, mid, to, true, rng, path);
    return;
  }
  DrawInside(runs, level - 1, left_run, from, mid, false, rng, path);
  DrawInside(runs, level - 1, right_run, mid, to, false, rng, path);
}

bool PathSampler::Draw(size_t block, Rng& rng, Buffers& buffers,
                       std::vector<StateChange>& path) const {
  const uint32_t block_class = instance_->block_class[block];
  const Runs& runs = runs_[instance_->classes[block_class].table];
  const size_t states = runs.states;
  Segments(block, buffers.segments);
  const size_t count = buffers.segments.size();
  buffers.ahead.assign((count + 1) * states, 1);
  Matrix edges;
  const auto weights_of = [&](const Buffers::Segment& segment) -> const double* {
    if (segment.level < kAccess) {
      return &runs.weight[segment.level][(segment.phase >> segment.level) * states * states];
    }
    EdgeWeights(block_class, segment, edges);
    return edges.data();
  };
  for (size_t i = count; i-- > 0;) {
    const double* const weight = weights_of(buffers.segments[i]);
    double* const ahead = &buffers.ahead[i * states];
    const double* const next = ahead + states;
    double heaviest = 0;
    for (size_t from = 0; from < states; ++from) {
      double sum = 0;
      for (size_t to = 0; to < states; ++to) sum += weight[from * states + to] * next[to];
      ahead[from] = sum;
      heaviest = std::max(heaviest, sum);
    }
    if (heaviest <= 0) return false;
    for (size_t k = 0; k < states; ++k) {
      if (ahead[k] > 0) ahead[k] = Possible(ahead[k], heaviest) / heaviest;
    }
  }
  std::array<double, kStatesMax> weights;
  bool can_start = false;
  for (size_t k = 0; k < states; ++k) {
    const bool starts = ((instance_->classes[block_class].start_states >> k) & 1) != 0;
    weights[k] = starts ? buffers.ahead[k] : 0;
    can_start = can_start || weights[k] > 0;
  }
  if (!can_start) return false;
  StateIndex state = DrawState(absl::MakeConstSpan(weights).first(states), rng);
  path.clear();
  path.push_back({instance_->birth[block], state});
  for (size_t i = 0; i < count; ++i) {
    const Buffers::Segment& segment = buffers.segments[i];
    const double* const weight = weights_of(segment);
    for (size_t to = 0; to < states; ++to) {
      weights[to] = weight[state * states + to] * buffers.ahead[(i + 1) * states + to];
    }
    const StateIndex to = DrawState(absl::MakeConstSpan(weights).first(states), rng);
    if (segment.level < kAccess) {
      DrawInside(runs, segment.level, segment.phase >> segment.level, state, to, false, rng, path);
    } else if (to != state) {
      path.push_back({segment.phase + 1, to});
    }
    state = to;
  }
  return true;
}

}  // namespace kvtier::bound
