#include "tests/support/bound/bound_lp.h"

#include <ClpSimplex.hpp>
#include <ClpSolve.hpp>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kvtier::test_support {
namespace {

using bound::Instance;
using bound::OptionTable;
using bound::StateIndex;

// Rows: what tiers hold at the start of each phase, resources' time in each phase, and flow through
// each block's states. Columns: phases' times, and the edges that parts of blocks take. Times are
// in units of what a block of class 0 takes on the slowest resource, room in blocks of class 0, so
// that numbers stay near 1.
class Program {
 public:
  explicit Program(const Instance& instance) : instance_(instance) {
    unit_bytes_ = static_cast<double>(instance.classes[0].bytes);
    for (const bound::Resource& resource : instance.resources)
      unit_seconds_ =
          std::max(unit_seconds_, unit_bytes_ / static_cast<double>(resource.units_per_second));
    const size_t resources = instance.resources.size(), tiers = instance.tiers.size();
    room_row_ = 0;
    time_row_ = room_row_ + instance.phase_count * tiers;
    flow_row_ = time_row_ + instance.phase_count * resources;
    row_low_.assign(flow_row_, -COIN_DBL_MAX);
    row_high_.assign(flow_row_, 0);
    for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
      for (size_t tier = 0; tier < tiers; ++tier)
        row_high_[room_row_ + phase * tiers + tier] =
            static_cast<double>(instance.tiers[tier].capacity_bytes) / unit_bytes_;
      for (size_t r = 0; r < resources; ++r)
        row_high_[time_row_ + phase * resources + r] =
            -Time(r, static_cast<double>(instance.BaseLoad(phase)[r]));
    }
    for (uint32_t phase = 0; phase < instance.phase_count; ++phase) AddTime(phase);
    for (size_t block = 0; block < instance.block_count(); ++block) AddBlock(block);
  }

  double unit_seconds() const { return unit_seconds_; }

  void Load(ClpSimplex& solver) const {
    solver.setLogLevel(0);
    const std::vector<double> low(cost_.size(), 0), high(cost_.size(), COIN_DBL_MAX);
    solver.loadProblem(static_cast<int>(cost_.size()), static_cast<int>(row_low_.size()),
                       first_entry_.data(), entry_row_.data(), entry_value_.data(), low.data(),
                       high.data(), cost_.data(), row_low_.data(), row_high_.data());
  }

 private:
  double Time(size_t resource, double units) const {
    return units / static_cast<double>(instance_.resources[resource].units_per_second) /
           unit_seconds_;
  }

  void Entry(size_t row, double value) {
    entry_row_.push_back(static_cast<int>(row));
    entry_value_.push_back(value);
  }
  // Ends a column of the entries since the last.
  void EndColumn(double cost) {
    first_entry_.push_back(static_cast<CoinBigIndex>(entry_row_.size()));
    cost_.push_back(cost);
  }

  void AddTime(uint32_t phase) {
    for (size_t r = 0; r < instance_.resources.size(); ++r)
      Entry(time_row_ + phase * instance_.resources.size() + r, -1);
    EndColumn(1);
  }

  // Rows for the flow into each state at the start of each phase but the first, and one that says
  // that all of the block starts somewhere.
  void AddBlock(size_t block) {
    const OptionTable& table = instance_.TableOf(block);
    const size_t start_row = row_low_.size();
    row_low_.push_back(1);
    row_high_.push_back(1);
    const uint32_t birth = instance_.birth[block], death = instance_.death[block];
    const size_t states = table.state_count();
    const size_t first_row = row_low_.size();
    row_low_.resize(first_row + (death - birth - 1) * states, 0);
    row_high_.resize(row_low_.size(), 0);
    const absl::Span<const uint32_t> accesses = instance_.Accesses(block);
    size_t access = 0;
    for (uint32_t phase = birth; phase < death; ++phase) {
      size_t count = 0;
      for (; access < accesses.size() && accesses[access] == phase; ++access) ++count;
      for (StateIndex from = 0; from < states; ++from) {
        if (phase == birth && (instance_.ClassOf(block).start_states >> from & 1) == 0) continue;
        for (StateIndex to = 0; to < states; ++to) {
          for (const bound::Option& option : table.Options(count, from, to)) {
            const auto flow_row = [&](uint32_t at, StateIndex state) {
              return first_row + (at - birth - 1) * states + state;
            };
            if (phase == birth)
              Entry(start_row, 1);
            else
              Entry(flow_row(phase, from), -1);
            if (phase + 1 < death) Entry(flow_row(phase + 1, to), 1);
            AddUse(block, phase, from, option);
            EndColumn(0);
          }
        }
      }
    }
  }

  void AddUse(size_t block, uint32_t phase, StateIndex from, const bound::Option& option) {
    const bound::BlockClass& block_class = instance_.ClassOf(block);
    const auto bytes = static_cast<double>(block_class.bytes);
    for (size_t tier = 0; tier < instance_.tiers.size(); ++tier) {
      if ((instance_.TableOf(block).states()[from] >> tier & 1) != 0)
        Entry(room_row_ + phase * instance_.tiers.size() + tier, bytes / unit_bytes_);
    }
    for (size_t r = 0; r < instance_.resources.size(); ++r) {
      double units = option.per_byte[r] * bytes;
      if (r == instance_.compute_resource)
        units += option.recomputes * static_cast<double>(block_class.recompute_units);
      if (units != 0) Entry(time_row_ + phase * instance_.resources.size() + r, Time(r, units));
    }
  }

  const Instance& instance_;
  double unit_bytes_ = 0, unit_seconds_ = 0;
  size_t room_row_ = 0, time_row_ = 0, flow_row_ = 0;
  std::vector<double> row_low_, row_high_;
  std::vector<CoinBigIndex> first_entry_ = {0};  // by column, and one more
  std::vector<int> entry_row_;
  std::vector<double> entry_value_, cost_;
};

ClpSolve::SolveType TypeOf(LpMethod method) {
  switch (method) {
    case LpMethod::kDual:
      return ClpSolve::useDual;
    case LpMethod::kPrimal:
      return ClpSolve::usePrimal;
    case LpMethod::kBarrier:
      return ClpSolve::useBarrier;
    case LpMethod::kAutomatic:
      break;
  }
  return ClpSolve::automatic;
}

}  // namespace

bool HaveClp() { return true; }

absl::StatusOr<double> SolveLp(const Instance& instance, LpMethod method) {
  Program program(instance);
  ClpSimplex solver;
  program.Load(solver);
  ClpSolve how;
  how.setSolveType(TypeOf(method));
  how.setPresolveType(ClpSolve::presolveOn);
  solver.initialSolve(how);
  if (solver.status() != 0)
    return absl::InternalError("Clp ended with status " + std::to_string(solver.status()));
  return solver.objectiveValue() * program.unit_seconds();
}

absl::StatusOr<double> WriteLp(const Instance& instance, const std::string& path) {
  Program program(instance);
  ClpSimplex solver;
  program.Load(solver);
  if (solver.writeMps(path.c_str()) != 0) return absl::InternalError("cannot write " + path);
  return program.unit_seconds();
}

}  // namespace kvtier::test_support
