#include "tiering/bound/primal/price_dive.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "tiering/bound/primal/cost_to_go.h"
#include "tiering/bound/primal/keep_order.h"
#include "tiering/bound/primal/phase_moves.h"

namespace kvtier::bound {
namespace {

// How often a block is tried to be moved after a read or a move.
constexpr uint8_t kTries = 4;

class Dive {
 public:
  Dive(const Instance& instance, const PathPrices& prices, const PhaseCuts& cuts,
       const PhaseReaders& readers)
      : instance_(instance),
        readers_(readers),
        costs_(instance, prices),
        standings_(instance.block_count()),
        keep_order_(instance, prices, costs_, standings_),
        paths_(instance.block_count()),
        births_(instance.phase_count),
        deaths_(size_t{instance.phase_count} + 1),
        tries_(instance.phase_count),
        moves_(instance, prices, cuts, costs_, standings_, keep_order_) {
    for (uint32_t block = 0; block < instance.block_count(); ++block) {
      births_[instance.birth[block]].push_back(block);
      deaths_[instance.death[block]].push_back(block);
      standings_[block].next = instance.first_access[block];
    }
  }

  std::vector<Path> Run(const std::function<bool()>& go_on) {
    if (!costs_.Prepare(go_on)) return {};
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      if (!go_on() || !StartPhase(phase)) return {};
    }
    return std::move(paths_);
  }

 private:
  struct Try {
    uint32_t block = 0;
    uint32_t version = 0;
    uint8_t tries = 0;
  };

  // Decides the states at the start of `phase`, and with it what blocks do in the phase before.
  bool StartPhase(uint32_t phase) {
    phase_ = phase;
    moves_.Start(phase);
    for (const uint32_t block : deaths_[phase]) {
      moves_.Occupy(block, standings_[block].state, -1);
      ++standings_[block].version;
    }
    if (phase > 0) TouchReaders(phase - 1);
    for (const uint32_t block : births_[phase]) moves_.Touch(block, 0, kNowhere, kTries);
    TouchStranded(phase);
    for (const Try& one : tries_[phase]) {
      const Standing& standing = standings_[one.block];
      if (standing.version == one.version && moves_.Find(one.block) == nullptr)
        moves_.Touch(one.block, 0, standing.state, one.tries);
    }
    tries_[phase] = {};
    if (!moves_.Place()) return false;
    moves_.Improve();
    Finish();
    return true;
  }

  // Their reads load the phase before; what stays where it is needs no more.
  void TouchReaders(uint32_t before) {
    const absl::Span<const uint32_t> readers = readers_.Of(before);
    for (size_t i = 0; i < readers.size();) {
      const uint32_t block = readers[i];
      uint32_t accesses = 0;
      for (; i < readers.size() && readers[i] == block; ++i) ++accesses;
      Standing& standing = standings_[block];
      standing.next += accesses;
      if (instance_.death[block] == phase_) {
        moves_.Load(block, accesses, standing.state, standing.state);
        continue;
      }
      ++standing.version;
      moves_.Touch(block, accesses, standing.state, kTries);
      if (moves_.Find(block)->at != kNowhere) keep_order_.Add(block, phase_);
    }
  }

  // What is read now and cannot be where it is.
  void TouchStranded(uint32_t phase) {
    for (const uint32_t block : readers_.Of(phase)) {
      if (moves_.Find(block) != nullptr) continue;
      const Standing& standing = standings_[block];
      if (costs_.Stay({block, phase, standing.next}, standing.state) == CostToGo::kInfinite)
        moves_.Touch(block, 0, standing.state, 0);
    }
  }

  void Finish() {
    for (const PhaseMoves::Touched& touched : moves_.touched()) {
      const uint32_t block = touched.block;
      Standing& standing = standings_[block];
      const bool moved = touched.at != touched.from;
      if (moved) {
        paths_[block].push_back({phase_, touched.at});
        standing.state = touched.at;
      }
      if (touched.decided) keep_order_.Add(block, phase_);
      const CostToGo::Place place = {block, phase_, standing.next};
      const bool leaves = costs_.Stay(place, standing.state) == CostToGo::kInfinite &&
                          !costs_.Idles(instance_.ClassOf(block).table, standing.state);
      const uint8_t tries = moved || leaves ? kTries : touched.tries;
      if (tries == 0) continue;
      const uint32_t best = costs_.BestMove(place, standing.state);
      if (best != CostToGo::kNone)
        tries_[best + 1].push_back({block, standing.version, static_cast<uint8_t>(tries - 1)});
    }
  }

  const Instance& instance_;
  const PhaseReaders& readers_;
  CostToGo costs_;
  std::vector<Standing> standings_;
  KeepOrder keep_order_;
  std::vector<Path> paths_;
  std::vector<std::vector<uint32_t>> births_, deaths_;  // by phase
  std::vector<std::vector<Try>> tries_;                 // by phase in which they would have moved
  uint32_t phase_ = 0;
  PhaseMoves moves_;
};

}  // namespace

std::vector<Path> DivePriced(const Instance& instance, const PathPrices& prices,
                             const PhaseCuts& cuts, const PhaseReaders& readers,
                             const std::function<bool()>& go_on) {
  return Dive(instance, prices, cuts, readers).Run(go_on);
}

}  // namespace kvtier::bound
