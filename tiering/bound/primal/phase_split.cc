#include "tiering/bound/primal/phase_split.h"

#include <algorithm>

#include "tiering/base/check.h"

namespace kvtier::bound {
namespace {

// Times lie in [1, 2] there, so these are relative.
constexpr double kOptimal = 1e-11;
constexpr double kSmallestPivot = 1e-12;
// Far above what was ever seen (tens); a game that is not solved by then is still a feasible mix.
constexpr size_t kRoundsMax = 1000;

}  // namespace

void PhaseSplit::Begin(absl::Span<const double> fixed) {
  KVTIER_CHECK(fixed.size() == resources_);
  fixed_.assign(fixed.begin(), fixed.end());
  groups_.clear();
  rows_.clear();
}

void PhaseSplit::AddOption(absl::Span<const double> seconds) {
  KVTIER_CHECK(!groups_.empty() && seconds.size() == resources_);
  rows_.insert(rows_.end(), seconds.begin(), seconds.end());
  ++groups_.back().options;
}

double PhaseSplit::Cost(size_t row) const {
  double cost = 0;
  for (size_t r = 0; r < resources_; ++r) cost += shares_[r] * rows_[row * resources_ + r];
  return cost;
}

// Each group's cheapest option at the present shares.
void PhaseSplit::Respond() {
  column_ = fixed_;
  for (size_t g = 0; g < groups_.size(); ++g) {
    size_t best = groups_[g].first_row;
    double best_cost = Cost(best);
    for (size_t o = 1; o < groups_[g].options; ++o) {
      const double cost = Cost(groups_[g].first_row + o);
      if (cost < best_cost) {
        best_cost = cost;
        best = groups_[g].first_row + o;
      }
    }
    choice_[g] = static_cast<uint16_t>(best - groups_[g].first_row);
    for (size_t r = 0; r < resources_; ++r) column_[r] += rows_[best * resources_ + r];
  }
}

void PhaseSplit::AddColumn() {
  choices_.insert(choices_.end(), choice_.begin(), choice_.end());
  // The slacks' columns hold the basis's inverse, and in the objective row minus its prices.
  for (size_t row = 0; row <= resources_; ++row) {
    double value = row == resources_ ? 1 : 0;
    for (size_t r = 0; r < resources_; ++r) {
      value += tableau_[row][r] * (column_[r] / scale_ + 1);
    }
    tableau_[row].push_back(value);
  }
  ++columns_;
}

void PhaseSplit::Pivot(size_t row, size_t column) {
  const double pivot = tableau_[row][column];
  for (double& value : tableau_[row]) value /= pivot;
  right_[row] /= pivot;
  for (size_t other = 0; other <= resources_; ++other) {
    const double factor = tableau_[other][column];
    if (other == row || factor == 0) continue;
    for (size_t c = 0; c < columns_; ++c) tableau_[other][c] -= factor * tableau_[row][c];
    right_[other] -= factor * right_[row];
  }
  basis_[row] = column;
}

void PhaseSplit::Optimise() {
  const std::vector<double>& gain = tableau_[resources_];
  // Bland's rule: no cycles.
  for (size_t round = 0; round < kRoundsMax; ++round) {
    size_t entering = columns_;
    for (size_t c = 0; c < columns_ && entering == columns_; ++c) {
      if (gain[c] > kOptimal) entering = c;
    }
    if (entering == columns_) return;
    size_t leaving = resources_;
    double least = 0;
    for (size_t r = 0; r < resources_; ++r) {
      if (tableau_[r][entering] <= kSmallestPivot) continue;
      const double ratio = std::max(0.0, right_[r]) / tableau_[r][entering];
      if (leaving == resources_ || ratio < least ||
          (ratio == least && basis_[r] < basis_[leaving])) {
        leaving = r;
        least = ratio;
      }
    }
    if (leaving == resources_) return;  // cannot be: all times are 1 or more
    Pivot(leaving, entering);
  }
}

double PhaseSplit::Solve() {
  parts_.assign(rows_.size() / resources_, 0);
  shares_.assign(resources_, 1.0 / static_cast<double>(resources_));
  choice_.assign(groups_.size(), 0);
  choices_.clear();
  scale_ = *std::max_element(fixed_.begin(), fixed_.end());
  for (const SplitGroup& group : groups_) {
    double longest = 0;
    for (size_t i = 0; i < group.options * resources_; ++i) {
      longest = std::max(longest, rows_[group.first_row * resources_ + i]);
    }
    scale_ += longest;
  }
  if (scale_ <= 0) scale_ = 1;

  columns_ = resources_;
  tableau_.assign(resources_ + 1, std::vector<double>(resources_, 0.0));
  right_.assign(resources_ + 1, 1.0);
  right_[resources_] = 0;
  basis_.resize(resources_);
  for (size_t r = 0; r < resources_; ++r) {
    tableau_[r][r] = 1;
    basis_[r] = r;
  }

  for (size_t round = 0; round < kRoundsMax; ++round) {
    Respond();
    AddColumn();
    // How much less than the best mix the new choice costs at the shares that chose it.
    if (round > 0 && tableau_[resources_].back() <= 10 * kOptimal) break;
    Optimise();
    double sum = 0;
    for (size_t r = 0; r < resources_; ++r) {
      shares_[r] = std::max(0.0, -tableau_[resources_][r]);
      sum += shares_[r];
    }
    for (double& share : shares_) share /= sum;
  }

  double weights = 0;
  for (size_t r = 0; r < resources_; ++r) {
    if (basis_[r] >= resources_) weights += std::max(0.0, right_[r]);
  }
  for (size_t r = 0; r < resources_; ++r) {
    if (basis_[r] < resources_) continue;
    const double weight = std::max(0.0, right_[r]) / weights;
    const size_t column = basis_[r] - resources_;
    for (size_t g = 0; g < groups_.size(); ++g) {
      parts_[groups_[g].first_row + choices_[column * groups_.size() + g]] += weight;
    }
  }
  column_ = fixed_;
  for (size_t row = 0; row < parts_.size(); ++row) {
    for (size_t r = 0; r < resources_; ++r) {
      column_[r] += parts_[row] * rows_[row * resources_ + r];
    }
  }
  return *std::max_element(column_.begin(), column_.end());
}

}  // namespace kvtier::bound
