// From a placement problem to a certified bound and a schedule that comes near it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "sim/schedule_terms.h"
#include "sim/simulation_result.h"
#include "tiering/base/executor.h"
#include "tiering/base/stop_check.h"
#include "tiering/bound/certificate.h"
#include "tiering/bound/dual_solver.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/primal/schedule_checker.h"
#include "tiering/bound/primal/schedule_search.h"

namespace kvtier::sim {

struct BoundProgress {
  double seconds = 0;  // since the start
  std::string stage{};
  double lower_bound_s = 0;                 // not yet certified
  std::optional<double> best_feasible_s{};  // none found so far
};

struct BoundRunOptions {
  bound::DualOptions dual{};
  bound::ScheduleSearchOptions search{};
  bool find_schedule = true;
  // Checked now and then, also within evaluations; each part ends with the best it has. The
  // certificate is made whatever the time: that takes one evaluation of the prices in integers. The
  // first evaluation has a second even where the limit is shorter.
  double time_limit_s = 60;
  // Seconds of a clock that does not go back. Asked by all lanes of the executor at once.
  std::function<double()> now_s{};
  // False ends the run, which is CANCELLED if it has no bound yet. May be empty.
  std::function<bool(const BoundProgress&)> on_progress{};
  // The same for once it is true, and at once: it is asked within evaluations and within the
  // division and the check of schedules. May be empty.
  StopCheck stop{};
};

struct BoundRun {
  bound::Prices prices;
  bound::Certificate certificate;  // verified
  double lower_bound_s = 0;        // that it proves, rounded down
  // With room for everything: all memories at full speed at the same time, or what is computed in
  // any case.
  double roofline_s = 0;
  // Absent where none was found, or was asked for.
  std::optional<bound::Schedule> schedule{};
  std::optional<bound::ScheduleTime> schedule_time{};
  // Of the best schedule found, rounded up, or of a policy's simulation that was faster.
  std::optional<double> best_feasible_s{};
  std::string best_from{};  // the name of the candidate or of the policy
  // What that simulation loaded; absent where the best is `schedule`, or there is none.
  std::optional<std::vector<SimulationResult::Port>> simulated{};
  std::vector<BoundProgress> progress{};
  double seconds = 0;

  // Best feasible over lower bound, less one; none without either.
  std::optional<double> gap() const;

  // What a policy did in a simulation is a schedule: the best one if nothing was faster, and then
  // `progress` has a point more, at its end.
  void Offer(const SimulationResult& result);
  // So is what was best on a machine that has no more of anything, of `progress` apart.
  void OfferBestOf(const BoundRun& lesser);

  // The best one found, if nothing else was faster.
  const bound::ScheduleTime* best_schedule() const {
    return schedule_time && !simulated ? &*schedule_time : nullptr;
  }
  // What the best loads on a resource in all phases together, of its units; none without a best, or
  // where its simulation has no port of that name.
  std::optional<double> BestUnits(const bound::Instance& instance, size_t resource) const;

  // INTERNAL if the best is faster than the bound allows, which is a mistake in one of the two.
  absl::Status Check() const;
};

// `instance` passed Check; `schedules` is its own. `others` are candidates from elsewhere, a
// policy's schedule. The bound does not depend on the executor's lanes, except by what the time
// limit cuts off. INTERNAL if a schedule is faster than the bound allows, which is a mistake in one
// of the two; DEADLINE_EXCEEDED if not one evaluation came to its end within the time limit.
absl::StatusOr<BoundRun> RunBound(const bound::Instance& instance, const ScheduleTerms& schedules,
                                  const BoundRunOptions& options,
                                  absl::Span<const bound::NamedSchedule> others,
                                  Executor& executor);

}  // namespace kvtier::sim
