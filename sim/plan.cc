#include "sim/plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sim/spec_fields.h"
#include "sim/trace_load.h"
#include "sim/trace_simulation.h"
#include "tiering/base/status_macros.h"
#include "tiering/base/stoppable_executor.h"
#include "tiering/bound/evaluation.h"
#include "tiering/bound/price_rounding.h"
#include "tiering/bound/verifier.h"

namespace kvtier::sim {
namespace {

class Planner {
 public:
  Planner(const AnyTrace& trace, const Machine& machine, const ModelSpec& model,
          const std::vector<PlanAxis>& axes, const PlanOptions& options, Executor& executor)
      : trace_(trace),
        machine_(machine),
        model_(model),
        axes_(axes),
        options_(options),
        executor_(executor, options.run.stop) {}

  absl::StatusOr<std::vector<PlanPoint>> Do() {
    KVTIER_RETURN_IF_ERROR(LayOut());
    // What machines there are is checked before anything takes long.
    KVTIER_RETURN_IF_ERROR(PrepareAll());
    KVTIER_RETURN_IF_ERROR(BoundAll());
    for (const PlanPoint& point : points_) prices_.push_back(point.run.prices);
    for (size_t i = 0; i < points_.size(); ++i) {
      KVTIER_RETURN_IF_ERROR(Report(i, "prices of other points"));
      KVTIER_RETURN_IF_ERROR(TryOthersPrices(points_[i]));
    }
    RaiseToLesser();
    for (size_t i = 0; i < points_.size(); ++i) {
      KVTIER_RETURN_IF_ERROR(Report(i, "schedules of other points"));
      KVTIER_RETURN_IF_ERROR(TryOthersSchedules(points_[i]));
      points_[i].binding =
          FindBinding(points_[i].problem.instance, points_[i].run.prices, executor_);
      if (executor_.stopped()) return Ended();
    }
    for (PlanPoint& point : points_) KVTIER_RETURN_IF_ERROR(OfferPolicies(point));
    OfferToMore();
    return std::move(points_);
  }

 private:
  absl::Status LayOut() {
    size_t count = 1;
    for (size_t i = 0; i < axes_.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (axes_[i].Overlaps(axes_[j]))
          return absl::InvalidArgumentError(
              absl::StrCat("--vary ", axes_[i].name, " sets what --vary ", axes_[j].name, " sets"));
      }
      count *= axes_[i].values.size();
      if (count > kPlanPointsMax) {
        return absl::InvalidArgumentError(absl::StrCat(
            "there are ", count, " combinations or more; the limit is ", kPlanPointsMax,
            ": --vary NAME=A..B/3 has three values, and --vary NAME=A,B these two"));
      }
    }
    points_.resize(count);
    for (size_t i = 0; i < count; ++i) {
      size_t rest = i;
      points_[i].values.resize(axes_.size());
      for (size_t axis = axes_.size(); axis-- > 0;) {
        points_[i].values[axis] = axes_[axis].values[rest % axes_[axis].values.size()];
        rest /= axes_[axis].values.size();
      }
    }
    return absl::OkStatus();
  }

  // Points whose machines are too small go: for model and trace, or for the engine with its staging
  // buffers and whole blocks, which needs more room than a bound.
  absl::Status PrepareAll() {
    std::vector<PlanPoint> fit;
    absl::Status unfit;
    for (size_t i = 0; i < points_.size(); ++i) {
      PlanPoint& point = points_[i];
      absl::Status status = Prepare(point);
      bool too_small = absl::IsFailedPrecondition(status);
      if (status.ok()) {
        status = Simulate(i);
        too_small = absl::IsResourceExhausted(status);
      }
      if (!status.ok() && !too_small) return status;
      if (status.ok()) {
        fit.push_back(std::move(point));
      } else {
        unfit.Update(status);
        if (options_.on_left_out) options_.on_left_out(point, status);
      }
    }
    points_ = std::move(fit);
    return points_.empty() ? unfit : absl::OkStatus();
  }

  absl::Status Prepare(PlanPoint& point) {
    point.machine = machine_;
    ModelSpec model = model_;
    std::vector<std::string> overrides;
    for (size_t axis = 0; axis < axes_.size(); ++axis) {
      if (axes_[axis].is_load()) {
        point.load = static_cast<uint32_t>(point.values[axis]);
      } else {
        overrides.push_back(axes_[axis].Override(point.values[axis]));
      }
    }
    KVTIER_RETURN_IF_ERROR(ApplyOverrides(overrides, point.machine, model));
    KVTIER_ASSIGN_OR_RETURN(const AnyTrace* const loaded, Loaded(point.load));
    KVTIER_ASSIGN_OR_RETURN(point.problem,
                            MakeProblem(*loaded, point.machine, model_, ProblemOf(point)));
    return absl::OkStatus();
  }

  ProblemOptions ProblemOf(const PlanPoint& point) const {
    ProblemOptions options = options_.problem;
    options.stop = options_.run.stop;
    options.sessions *= point.load;
    options.requests_max = std::min(kRequestsMax / point.load, options.requests_max) * point.load;
    return options;
  }

  // The trace with that load.
  absl::StatusOr<const AnyTrace*> Loaded(uint32_t load) {
    if (load == 1) return &trace_;
    const auto found = loaded_.find(load);
    if (found != loaded_.end()) return &found->second;
    const auto* const prompts = std::get_if<Trace>(&trace_);
    if (prompts == nullptr) {
      return absl::InvalidArgumentError(
          "an attention trace is one sequence's: --vary load is for traces of requests");
    }
    KVTIER_ASSIGN_OR_RETURN(Trace more, WithLoad(*prompts, load));
    return &loaded_.emplace(load, AnyTrace(std::move(more))).first->second;
  }

  bool Stopped() const { return options_.run.stop && options_.run.stop(); }

  static absl::Status Ended() {
    return absl::CancelledError("the plan was ended before it was whole");
  }

  absl::Status Report(size_t point, const std::string& what) const {
    const bool goes_on = !options_.on_progress || options_.on_progress(point, points_.size(), what);
    return goes_on && !Stopped() ? absl::OkStatus() : Ended();
  }

  // What there was no time for goes, and leaves the other points' hours as they are.
  absl::Status BoundAll() {
    std::vector<PlanPoint> bounded;
    absl::Status late;
    for (size_t i = 0; i < points_.size(); ++i) {
      const absl::Status status = Bound(i);
      if (status.ok()) {
        bounded.push_back(std::move(points_[i]));
      } else if (absl::IsDeadlineExceeded(status)) {
        late.Update(status);
        if (options_.on_left_out) options_.on_left_out(points_[i], status);
      } else {
        return status;
      }
    }
    points_ = std::move(bounded);
    return points_.empty() ? late : absl::OkStatus();
  }

  absl::Status Bound(size_t index) {
    KVTIER_RETURN_IF_ERROR(Report(index, "bound and schedule"));
    BoundRunOptions options = options_.run;
    bool goes_on = true;
    options.on_progress = [&](const BoundProgress& progress) {
      goes_on = goes_on && Report(index, progress.stage).ok();
      return goes_on;
    };
    KVTIER_ASSIGN_OR_RETURN(points_[index].run,
                            RunBound(points_[index].problem.instance,
                                     points_[index].problem.schedules, options, {}, executor_));
    return goes_on && !Stopped() ? absl::OkStatus() : Ended();
  }

  absl::Status TryOthersPrices(PlanPoint& point) {
    const bound::Instance& instance = point.problem.instance;
    bound::Evaluator evaluator(instance, executor_);
    const bound::Prices* best = nullptr;
    double best_value = point.run.lower_bound_s;
    for (size_t i = 0; i < points_.size(); ++i) {
      if (&points_[i] == &point || points_[i].load != point.load) continue;
      const double value = evaluator.Hard(prices_[i], nullptr);
      if (evaluator.stopped()) return Ended();
      if (value <= best_value) continue;
      best_value = value;
      best = &prices_[i];
    }
    if (best == nullptr) return absl::OkStatus();
    const auto go_on = [this] { return !Stopped(); };
    KVTIER_ASSIGN_OR_RETURN(bound::Certificate certificate, bound::Certify(instance, *best, go_on));
    KVTIER_ASSIGN_OR_RETURN(const double seconds,
                            bound::VerifiedSeconds(instance, certificate, go_on));
    if (seconds <= point.run.lower_bound_s) return absl::OkStatus();
    point.run.prices = *best;
    point.run.certificate = std::move(certificate);
    point.run.lower_bound_s = seconds;
    return absl::OkStatus();
  }

  // The bound of a machine that has more is one of a machine that has less. That one's prices prove
  // as much here, but for what rounding to integers takes.
  void RaiseToLesser() {
    for (PlanPoint& point : points_) {
      for (const PlanPoint& other : points_) {
        if (other.load == point.load && HasNoLess(other.problem.instance, point.problem.instance)) {
          point.run.lower_bound_s = std::max(point.run.lower_bound_s, other.run.lower_bound_s);
        }
      }
    }
  }

  // Whether what fits into the tiers of `other`, beside what schedules keep free there, fits here.
  static bool HasRoomOf(const PlanPoint& point, const PlanPoint& other) {
    const std::vector<bound::Tier>& more = point.problem.instance.tiers;
    const std::vector<bound::Tier>& less = other.problem.instance.tiers;
    for (size_t j = 0; j < more.size(); ++j) {
      uint64_t room = more[j].capacity_bytes, needed = less[j].capacity_bytes;
      if (j == 0) {
        room -= std::min(room, point.problem.schedules.kept_bytes);
        needed -= std::min(needed, other.problem.schedules.kept_bytes);
      }
      if (room < needed) return false;
    }
    return true;
  }

  absl::Status TryOthersSchedules(PlanPoint& point) {
    KVTIER_ASSIGN_OR_RETURN(const bound::Instance instance,
                            ForSchedules(point.problem.instance, point.problem.schedules));
    for (const PlanPoint& other : points_) {
      if (&other == &point || other.load != point.load || !other.run.schedule) continue;
      if (!HasRoomOf(point, other)) continue;
      KVTIER_ASSIGN_OR_RETURN(
          bound::ScheduleTime time,
          bound::CheckSchedule(instance, *other.run.schedule, options_.run.stop));
      if (point.run.schedule && time.picoseconds >= point.run.schedule_time->picoseconds) continue;
      // A double holds 2^53 exactly: the next one is not below.
      point.run.best_feasible_s =
          std::nextafter(static_cast<double>(time.picoseconds) * 1e-12, HUGE_VAL);
      point.run.best_from = other.run.best_from;
      point.run.schedule = other.run.schedule;
      point.run.schedule_time = std::move(time);
    }
    return point.run.Check();
  }

  // What takes so long on a machine need not take longer on one that has more, and whose staging
  // buffers leave no less.
  void OfferToMore() {
    for (PlanPoint& point : points_) {
      for (const PlanPoint& other : points_) {
        if (other.load != point.load || !HasRoomOf(point, other)) continue;
        if (HasNoLess(point.problem.instance, other.problem.instance))
          point.run.OfferBestOf(other.run);
      }
    }
  }

  absl::Status Simulate(size_t index) {
    PlanPoint& point = points_[index];
    KVTIER_ASSIGN_OR_RETURN(const AnyTrace* const loaded, Loaded(point.load));
    for (const std::string& policy : options_.policies) {
      KVTIER_RETURN_IF_ERROR(Report(index, policy));
      KVTIER_ASSIGN_OR_RETURN(SimulationResult result,
                              SimulateTrace(*loaded, point.machine, model_, ProblemOf(point),
                                            policy, {.stop = options_.run.stop}));
      point.policies.push_back(std::move(result));
    }
    return absl::OkStatus();
  }

  static absl::Status OfferPolicies(PlanPoint& point) {
    for (const SimulationResult& result : point.policies) point.run.Offer(result);
    return point.run.Check();
  }

  const AnyTrace& trace_;
  const Machine& machine_;
  const ModelSpec& model_;
  const std::vector<PlanAxis>& axes_;
  const PlanOptions& options_;
  StoppableExecutor executor_;
  std::map<uint32_t, AnyTrace> loaded_;
  std::vector<PlanPoint> points_;
  std::vector<bound::Prices> prices_;  // that each point's own solver found
};

}  // namespace

bool HasNoLess(const bound::Instance& more, const bound::Instance& less) {
  for (size_t j = 0; j < less.tiers.size(); ++j) {
    if (more.tiers[j].capacity_bytes < less.tiers[j].capacity_bytes) return false;
  }
  for (size_t r = 0; r < less.resources.size(); ++r) {
    if (more.resources[r].units_per_second < less.resources[r].units_per_second) return false;
  }
  return true;
}

absl::StatusOr<std::vector<PlanPoint>> RunPlan(const AnyTrace& trace, const Machine& machine,
                                               const ModelSpec& model,
                                               const std::vector<PlanAxis>& axes,
                                               const PlanOptions& options, Executor& executor) {
  return Planner(trace, machine, model, axes, options, executor).Do();
}

}  // namespace kvtier::sim
