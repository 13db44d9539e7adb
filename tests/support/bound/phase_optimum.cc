#include "tests/support/bound/phase_optimum.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "tiering/base/check.h"

namespace kvtier::test_support {
namespace {

// Pivots on a dense tableau whose last column is the right-hand side and whose last row is the
// objective's reduced costs; `basis` names each row's basic column.
class Tableau {
 public:
  Tableau(size_t rows, size_t columns)
      : rows_(rows), columns_(columns), cells_((rows + 1) * (columns + 1)), basis_(rows) {}

  double& At(size_t row, size_t column) { return cells_[row * (columns_ + 1) + column]; }
  double& Right(size_t row) { return At(row, columns_); }
  double& Cost(size_t column) { return At(rows_, column); }

  void Pivot(size_t row, size_t column) {
    const double by = At(row, column);
    for (size_t c = 0; c <= columns_; ++c) At(row, c) /= by;
    for (size_t r = 0; r <= rows_; ++r) {
      const double factor = At(r, column);
      if (r == row || factor == 0) continue;
      for (size_t c = 0; c <= columns_; ++c) At(r, c) -= factor * At(row, c);
    }
    basis_[row] = column;
  }

  // From a feasible basis to an optimal one.
  void Minimise() {
    for (;;) {
      size_t enter = 0;
      while (enter < columns_ && Cost(enter) > -kTiny) ++enter;
      if (enter == columns_) return;
      size_t leave = rows_;
      for (size_t r = 0; r < rows_; ++r) {
        if (At(r, enter) <= kTiny) continue;
        const double ratio = Right(r) / At(r, enter);
        const double best = leave == rows_ ? 0 : Right(leave) / At(leave, enter);
        if (leave == rows_ || ratio < best - kTiny ||
            (ratio < best + kTiny && basis_[r] < basis_[leave]))
          leave = r;
      }
      KVTIER_CHECK(leave != rows_);  // the objective is bounded by zero
      Pivot(leave, enter);
    }
  }

 private:
  static constexpr double kTiny = 1e-11;
  size_t rows_, columns_;
  std::vector<double> cells_;
  std::vector<size_t> basis_;
};

}  // namespace

double LeastPhaseSeconds(const Loads& base, const std::vector<std::vector<Loads>>& groups) {
  const size_t resources = base.size();
  // With every group's first option, which the starting basis takes.
  Loads first = base;
  size_t mixed = 0;
  for (const std::vector<Loads>& options : groups) {
    for (size_t r = 0; r < resources; ++r) first[r] += options[0][r];
    if (options.size() > 1) mixed += options.size();
  }
  const size_t longest =
      static_cast<size_t>(std::max_element(first.begin(), first.end()) - first.begin());
  if (mixed == 0) return first[longest];
  // Columns: the time; a slack for each resource; parts of the options of groups that have several.
  // Resource r: base + sum of parts x load - time + slack = 0. Group: sum of parts = 1.
  size_t rows = resources;
  for (const std::vector<Loads>& options : groups) rows += options.size() > 1 ? 1 : 0;
  Tableau tableau(rows, 1 + resources + mixed);
  for (size_t r = 0; r < resources; ++r) {
    tableau.At(r, 0) = -1;
    tableau.At(r, 1 + r) = 1;
    tableau.Right(r) = -base[r];
  }
  size_t row = resources, column = 1 + resources;
  std::vector<size_t> starts;
  for (const std::vector<Loads>& options : groups) {
    if (options.size() == 1) {
      for (size_t r = 0; r < resources; ++r) tableau.Right(r) -= options[0][r];
      continue;
    }
    starts.push_back(column);
    for (const Loads& option : options) {
      for (size_t r = 0; r < resources; ++r) tableau.At(r, column) = option[r];
      tableau.At(row, column++) = 1;
    }
    tableau.Right(row++) = 1;
  }
  tableau.Cost(0) = 1;
  for (size_t i = 0; i < starts.size(); ++i) tableau.Pivot(resources + i, starts[i]);
  tableau.Pivot(longest, 0);
  for (size_t r = 0; r < resources; ++r) {
    if (r != longest) tableau.Pivot(r, 1 + r);
  }
  tableau.Minimise();
  return -tableau.Right(rows);
}

}  // namespace kvtier::test_support
