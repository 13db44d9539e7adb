#include "tiering/bound/primal/phase_cuts.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tiering/base/check.h"

namespace kvtier::bound {
namespace {

// Cuts nearer to each other than this in every share differ by less than that part of a phase.
constexpr double kSameShare = 1e-4;

double PricedSeconds(const Instance& instance, const BlockClass& block_class, const Option& option,
                     absl::Span<const double> shares) {
  double seconds = 0;
  for (size_t r = 0; r < shares.size(); ++r) {
    double load = static_cast<double>(block_class.bytes) * option.per_byte[r];
    if (r == instance.compute_resource) {
      load += static_cast<double>(block_class.recompute_units) * option.recomputes;
    }
    seconds += shares[r] * load / static_cast<double>(instance.resources[r].units_per_second);
  }
  return seconds;
}

}  // namespace

PhaseCuts::PhaseCuts(const Instance& instance) : instance_(&instance) {
  size_t edges = 0;
  for (const BlockClass& block_class : instance.classes) {
    const OptionTable& table = instance.tables[block_class.table];
    const size_t states = table.state_count();
    states_.push_back(static_cast<uint32_t>(states));
    first_edge_.push_back(edges);
    edges += (table.accesses_max() + 1) * states * states;
    for (size_t accesses = 0; accesses <= table.accesses_max(); ++accesses) {
      for (StateIndex from = 0; from < static_cast<StateIndex>(states); ++from) {
        for (StateIndex to = 0; to < static_cast<StateIndex>(states); ++to) {
          legal_.push_back(table.Options(accesses, from, to).empty() ? 0 : 1);
        }
      }
    }
  }
  const size_t resources = instance.resources.size();
  cuts_ = resources;
  shares_.assign(resources * resources, 0);
  for (size_t r = 0; r < resources; ++r) shares_[r * resources + r] = 1;
  Fill();
  std::vector<double> kept;
  std::vector<bool> dropped(resources, false);
  for (size_t cut = 0; cut < resources; ++cut) {
    for (size_t by = 0; by < resources && !dropped[cut]; ++by) {
      dropped[cut] = by != cut && !dropped[by] && Dominated(cut, by);
    }
    if (dropped[cut]) continue;
    kept.insert(kept.end(), shares_.begin() + static_cast<ptrdiff_t>(cut * resources),
                shares_.begin() + static_cast<ptrdiff_t>((cut + 1) * resources));
  }
  shares_ = std::move(kept);
  cuts_ = shares_.size() / resources;
  Fill();
}

bool PhaseCuts::Dominated(size_t cut, size_t by) const {
  for (size_t edge = 0; edge < legal_.size(); ++edge) {
    if (seconds_[edge * cuts_ + cut] > seconds_[edge * cuts_ + by]) return false;
  }
  std::vector<double> base(cuts_);
  for (uint32_t phase = 0; phase < instance_->phase_count; ++phase) {
    Base(phase, base.data());
    if (base[cut] > base[by]) return false;
  }
  return true;
}

bool PhaseCuts::Add(absl::Span<const double> shares) {
  const size_t resources = instance_->resources.size();
  KVTIER_CHECK(shares.size() == resources);
  if (cuts_ >= kCutsMax) return false;
  for (size_t cut = 0; cut < cuts_; ++cut) {
    double farthest = 0;
    for (size_t r = 0; r < resources; ++r) {
      farthest = std::max(farthest, std::abs(shares[r] - shares_[cut * resources + r]));
    }
    if (farthest < kSameShare) return false;
  }
  shares_.insert(shares_.end(), shares.begin(), shares.end());
  ++cuts_;
  Fill();
  return true;
}

void PhaseCuts::Base(uint32_t phase, double* seconds) const {
  const size_t resources = instance_->resources.size();
  const absl::Span<const uint64_t> base = instance_->BaseLoad(phase);
  for (size_t cut = 0; cut < cuts_; ++cut) {
    seconds[cut] = 0;
    for (size_t r = 0; r < resources; ++r) {
      seconds[cut] += shares_[cut * resources + r] * static_cast<double>(base[r]) /
                      static_cast<double>(instance_->resources[r].units_per_second);
    }
  }
}

void PhaseCuts::Fill() {
  const size_t resources = instance_->resources.size();
  seconds_.assign(legal_.size() * cuts_, 0);
  for (uint32_t c = 0; c < instance_->classes.size(); ++c) {
    const BlockClass& block_class = instance_->classes[c];
    const OptionTable& table = instance_->tables[block_class.table];
    size_t edge = first_edge_[c];
    for (size_t accesses = 0; accesses <= table.accesses_max(); ++accesses) {
      for (StateIndex from = 0; from < static_cast<StateIndex>(table.state_count()); ++from) {
        for (StateIndex to = 0; to < static_cast<StateIndex>(table.state_count()); ++to, ++edge) {
          if (legal_[edge] == 0) continue;
          for (size_t cut = 0; cut < cuts_; ++cut) {
            double least = std::numeric_limits<double>::infinity();
            for (const Option& option : table.Options(accesses, from, to)) {
              least = std::min(least, PricedSeconds(*instance_, block_class, option,
                                                    absl::MakeConstSpan(shares_).subspan(
                                                        cut * resources, resources)));
            }
            seconds_[edge * cuts_ + cut] = least;
          }
        }
      }
    }
  }
}

}  // namespace kvtier::bound
