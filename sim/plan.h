// Bounds, schedules and policies over variations of a machine and its load.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/binding.h"
#include "sim/bound_run.h"
#include "sim/machine.h"
#include "sim/model_spec.h"
#include "sim/placement_problem.h"
#include "sim/plan_axis.h"
#include "sim/simulation_result.h"
#include "tiering/base/executor.h"

namespace kvtier::sim {

inline constexpr size_t kPlanPointsMax = 256;

struct PlanPoint {
  std::vector<uint64_t> values;  // by axis
  uint32_t load = 1;
  Machine machine{};
  PlacementProblem problem{};
  BoundRun run{};
  Binding binding{};
  std::vector<SimulationResult> policies{};  // as named
};

struct PlanOptions {
  ProblemOptions problem{};
  std::vector<std::string> policies{};
  // Of each point; `on_progress` is not called, and `stop` ends all of the plan.
  BoundRunOptions run{};
  // What is being done at which point, of how many; false ends the plan.
  std::function<bool(size_t point, size_t points, const std::string& what)> on_progress{};
  // Why a point is left out: its machine is too small for model and trace, or for the engine that
  // `policies` are simulated with; or there was no time for one evaluation. May be empty.
  std::function<void(const PlanPoint& point, const absl::Status& why)> on_left_out{};
};

// All combinations of the axes' values, the last axis fastest, but for those that are left out.
//
// Prices of one point give a bound at every other one of the same load, and a schedule stays one
// where no tier is smaller; so each point has the best bound that any point's prices prove there,
// and the best schedule of all that fit there beside its staging buffers. Therefore no bound rises,
// and no best schedule takes longer, where a machine gets more of anything, unless these buffers
// get more of it. Each bound is certified, at its point or at one that has more.
//
// FAILED_PRECONDITION: every machine is too small. DEADLINE_EXCEEDED: no point had time for one
// evaluation. INVALID_ARGUMENT: two axes that set one field,
// more than kPlanPointsMax points, a load of an attention trace, what no machine can be; INTERNAL
// if a policy is faster than the bound, which is a mistake in one of the two; CANCELLED by
// on_progress; else as RunBound, MakeProblem and the simulations. A function of its arguments but
// for what time limits cut off.
absl::StatusOr<std::vector<PlanPoint>> RunPlan(const AnyTrace& trace, const Machine& machine,
                                               const ModelSpec& model,
                                               const std::vector<PlanAxis>& axes,
                                               const PlanOptions& options, Executor& executor);

// Whether a machine of `more` has no tier smaller and no rate lower than one of `less`, and the
// problems are alike otherwise: whatever can be done on that one can be done on this, as fast.
bool HasNoLess(const bound::Instance& more, const bound::Instance& less);

}  // namespace kvtier::sim
