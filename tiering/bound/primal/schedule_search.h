// Looks for a schedule as near to the bound as it can.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tiering/base/executor.h"
#include "tiering/base/stop_check.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"
#include "tiering/bound/primal/schedule_checker.h"
#include "tiering/bound/schedule.h"

namespace kvtier::bound {

// A schedule that somebody else made, as a policy in the simulator.
struct NamedSchedule {
  std::string name;
  Schedule schedule;
};

struct ScheduleSearchOptions {
  uint64_t seed = 1;
  // Of the path sampler, as parts of the time that the slowest resource takes for a byte: the first
  // to be tried. From there it is halved and doubled as long as what is drawn gets better; once
  // with moves between accesses made rare, and once not.
  double temperature = 0.004;
  size_t samples = 8;           // at most; none at 0
  size_t passes = 8;            // of local search, for each candidate that is improved
  size_t exchange_passes = 16;  // and of exchanges
  size_t improved = 2;          // candidates at most, the best by their first time
  // A problem of many accesses gets fewer samples and passes, but one of each: no more passes than
  // make this many accesses, and samples that make a quarter of it; and the dive and Belady's rule
  // are tried only where two samples fit into that quarter, the latter also if nothing was found,
  // the dive only if its tables have no more entries than these. With more accesses than these the
  // static fill comes first.
  uint64_t work_accesses = 40'000'000;
  // Once it is true the search ends as by `progress`, and a schedule whose division or check is
  // under way is thrown away. May be empty.
  StopCheck stop{};
};

struct SearchProgress {
  std::string candidate;    // what is being tried
  double best_seconds = 0;  // infinite before the first
};

struct CandidateTime {
  std::string name;
  double first_seconds = 0;  // as constructed
  double seconds = 0;        // as improved
};

struct FoundSchedule {
  Schedule schedule;
  ScheduleTime time;   // by CheckSchedule
  double seconds = 0;  // that, rounded up
  std::string name;    // of the candidate
  std::vector<CandidateTime> candidates;
};

// A portfolio: nothing kept at all, where that can be, whatever the time; paths drawn at several
// temperatures, with room repaired; a dive through the phases by the prices; Belady's rule; a
// static fill by frequency; and `others`, whose schedules must pass CheckSchedule. The most
// promising are improved by local search, and the best is returned with its work divided exactly.
// What it returns depends on instance, prices, options and `others` only, not on the executor's
// lanes; `progress` is asked now and then and may end the search by returning false, then the best
// so far is returned, after one more division of its work and one check. `options.stop` does not
// wait for these.
//
// NOT_FOUND if no candidate is feasible, INVALID_ARGUMENT if one of `others` is not. The instance
// has passed Check.
absl::StatusOr<FoundSchedule> FindSchedule(
    const Instance& instance, const Prices& prices, const ScheduleSearchOptions& options,
    absl::Span<const NamedSchedule> others, Executor& executor,
    const std::function<bool(const SearchProgress&)>& progress);

}  // namespace kvtier::bound
