#include "sim/bound_run.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tiering/base/status_macros.h"
#include "tiering/base/stoppable_executor.h"
#include "tiering/bound/evaluation.h"
#include "tiering/bound/price_rounding.h"
#include "tiering/bound/verifier.h"

namespace kvtier::sim {
namespace {

// Of the time limit; the rest is for certificate and schedule.
constexpr double kDualPart = 0.5;
// Of the first evaluation, without which there is no bound, at least.
constexpr double kFirstSeconds = 1;
// Of a bound, what adding up may cost.
constexpr double kRounding = 1e-6;
// Of points that are kept, each at least so much later than the one before, in parts of the time
// that has passed: a thousand hours are a thousand points or so.
constexpr double kLaterBy = 0.01;

class Run {
 public:
  Run(const bound::Instance& instance, const ScheduleTerms& schedules,
      const BoundRunOptions& options, absl::Span<const bound::NamedSchedule> others,
      Executor& executor)
      : instance_(instance),
        schedules_(schedules),
        options_(options),
        others_(others),
        executor_(executor),
        start_s_(options.now_s()) {}

  absl::StatusOr<BoundRun> Do() {
    bound::DualOptions dual_options = options_.dual;
    dual_options.spent = [this] {
      return (options_.now_s() - start_s_) / (kDualPart * options_.time_limit_s);
    };
    double evaluation_limit_s = std::max(options_.time_limit_s, kFirstSeconds);
    StoppableExecutor executor(
        executor_, [&] { return Stopped() || options_.now_s() - start_s_ >= evaluation_limit_s; });
    bound::DualResult dual = bound::SolveDual(
        instance_, dual_options, executor, [&](const bound::DualProgress& dual_progress) {
          now_.stage = std::string(dual_progress.stage);
          now_.lower_bound_s = std::max(now_.lower_bound_s, dual_progress.bound);
          // What was begun in the solver's part of the time may be worth nothing before one more
          // evaluation, of prices of a sample; a polish loses no more than its last step.
          evaluation_limit_s = (now_.stage == "polish" ? kDualPart : 1) * options_.time_limit_s;
          return Report(kDualPart * options_.time_limit_s);
        });
    if (!dual.found()) return NothingFound();
    now_.lower_bound_s = std::max(now_.lower_bound_s, dual.bound);
    run_.roofline_s = dual.roofline_seconds;
    now_.stage = "certifying";
    // Whatever the time: without it there is no bound.
    KVTIER_ASSIGN_OR_RETURN(run_.certificate, bound::Certify(instance_, dual.prices, [this] {
                              Report(options_.time_limit_s);
                              return !ended_;
                            }));
    // What it claims is what the verifier found that it proves.
    run_.lower_bound_s =
        bound::SecondsOf(run_.certificate.claimed_quanta, run_.certificate.quanta_per_second);
    if (run_.lower_bound_s + bound::RoundingSeconds(instance_, dual.prices, run_.certificate) <
        run_.roofline_s * (1 - kRounding)) {
      return absl::InternalError(absl::StrFormat(
          "%.9g s are certified, and the roofline alone is %.9g s: prices are worth less than was "
          "found with them",
          run_.lower_bound_s, run_.roofline_s));
    }
    run_.roofline_s = std::min(run_.roofline_s, run_.lower_bound_s);
    now_.lower_bound_s = run_.lower_bound_s;
    now_.stage = "certified";
    Report(options_.time_limit_s);
    run_.prices = std::move(dual.prices);
    if (options_.find_schedule) {
      KVTIER_RETURN_IF_ERROR(Search(dual.ascended.share.empty() ? run_.prices : dual.ascended));
    }
    now_.stage = "done";
    Report(options_.time_limit_s);
    run_.seconds = now_.seconds;
    return std::move(run_);
  }

 private:
  // Any lane may ask.
  bool Stopped() const { return options_.stop && options_.stop(); }

  absl::Status NothingFound() const {
    if (ended_ || Stopped()) return absl::CancelledError("ended before there was any bound");
    return absl::DeadlineExceededError(absl::StrFormat(
        "no evaluation of the bound came to its end within %g s; the time limit is %g s, and the "
        "problem has %d blocks with %d accesses in %d phases",
        std::max(options_.time_limit_s, kFirstSeconds), options_.time_limit_s,
        instance_.block_count(), instance_.access_count(), instance_.phase_count));
  }

  // False once the time is up or the caller wants an end.
  bool Report(double limit_s) {
    const bool changed = run_.progress.empty() ||
                         run_.progress.back().lower_bound_s != now_.lower_bound_s ||
                         run_.progress.back().best_feasible_s != now_.best_feasible_s;
    now_.seconds = options_.now_s() - start_s_;
    if (changed && (run_.progress.empty() || now_.stage == "done" || now_.stage == "certified" ||
                    now_.seconds > run_.progress.back().seconds * (1 + kLaterBy)))
      run_.progress.push_back(now_);
    if (Stopped() || (options_.on_progress && !options_.on_progress(now_))) ended_ = true;
    return !ended_ && now_.seconds < limit_s;
  }

  absl::Status Search(const bound::Prices& prices) {
    std::optional<bound::Instance> other;
    if (!schedules_.none()) {
      KVTIER_ASSIGN_OR_RETURN(other, ForSchedules(instance_, schedules_));
    }
    // The time is asked for between parts of the search alone: what has been found is of no use
    // without the division and the check that follow.
    bound::ScheduleSearchOptions search_options = options_.search;
    search_options.stop = options_.stop;
    absl::StatusOr<bound::FoundSchedule> found =
        bound::FindSchedule(other ? *other : instance_, prices, search_options, others_, executor_,
                            [this](const bound::SearchProgress& search) {
                              now_.stage = search.candidate;
                              if (std::isfinite(search.best_seconds))
                                now_.best_feasible_s = search.best_seconds;
                              return Report(options_.time_limit_s);
                            });
    if (absl::IsNotFound(found.status())) return absl::OkStatus();
    if (!found.ok()) return found.status();
    run_.schedule_time = std::move(found->time);
    run_.best_feasible_s = found->seconds;
    run_.best_from = found->name;
    run_.schedule = std::move(found->schedule);
    now_.best_feasible_s = run_.best_feasible_s;
    return run_.Check();
  }

  const bound::Instance& instance_;
  const ScheduleTerms& schedules_;
  const BoundRunOptions& options_;
  absl::Span<const bound::NamedSchedule> others_;
  Executor& executor_;
  const double start_s_;
  BoundProgress now_;
  bool ended_ = false;
  BoundRun run_;
};

}  // namespace

std::optional<double> BoundRun::gap() const {
  if (!best_feasible_s || lower_bound_s <= 0) return std::nullopt;
  return *best_feasible_s / lower_bound_s - 1;
}

void BoundRun::Offer(const SimulationResult& result) {
  if (best_feasible_s && *best_feasible_s <= result.Seconds()) return;
  best_feasible_s = result.Seconds();
  best_from = result.policy;
  simulated = result.ports;
  progress.push_back({.seconds = seconds,
                      .stage = best_from,
                      .lower_bound_s = lower_bound_s,
                      .best_feasible_s = best_feasible_s});
}

void BoundRun::OfferBestOf(const BoundRun& lesser) {
  if (!lesser.best_feasible_s) return;
  if (best_feasible_s && *best_feasible_s <= *lesser.best_feasible_s) return;
  best_feasible_s = lesser.best_feasible_s;
  best_from = lesser.best_from;
  schedule = lesser.schedule;
  schedule_time = lesser.schedule_time;
  simulated = lesser.simulated;
}

std::optional<double> BoundRun::BestUnits(const bound::Instance& instance, size_t resource) const {
  double units = 0;
  if (simulated) {
    const std::string& name = instance.resources[resource].name;
    const auto port =
        std::find_if(simulated->begin(), simulated->end(),
                     [&](const SimulationResult::Port& one) { return one.name == name; });
    if (port == simulated->end()) return std::nullopt;
    return static_cast<double>(port->units);
  }
  if (!schedule_time) return std::nullopt;
  for (size_t at = resource; at < schedule_time->phase_load.size(); at += instance.resources.size())
    units += static_cast<double>(schedule_time->phase_load[at]);
  return units;
}

absl::Status BoundRun::Check() const {
  if (!best_feasible_s || *best_feasible_s >= lower_bound_s) return absl::OkStatus();
  return absl::InternalError(
      absl::StrFormat("%s takes %.9g s, and the bound is %.9g s: one of them is wrong", best_from,
                      *best_feasible_s, lower_bound_s));
}

absl::StatusOr<BoundRun> RunBound(const bound::Instance& instance, const ScheduleTerms& schedules,
                                  const BoundRunOptions& options,
                                  absl::Span<const bound::NamedSchedule> others,
                                  Executor& executor) {
  return Run(instance, schedules, options, others, executor).Do();
}

}  // namespace kvtier::sim
