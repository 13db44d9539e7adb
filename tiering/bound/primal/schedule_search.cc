#include "tiering/bound/primal/schedule_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tiering/base/rng.h"
#include "tiering/bound/primal/batch_min.h"
#include "tiering/bound/primal/exchange_search.h"
#include "tiering/bound/primal/local_search.h"
#include "tiering/bound/primal/option_split.h"
#include "tiering/bound/primal/path_prices.h"
#include "tiering/bound/primal/path_sampler.h"
#include "tiering/bound/primal/phase_readers.h"
#include "tiering/bound/primal/room_repair.h"
#include "tiering/bound/primal/schedule_checker.h"
#include "tiering/bound/primal/static_fill.h"
#include "tiering/bound/primal/working_schedule.h"

namespace kvtier::bound {
namespace {

constexpr size_t kBlocksAtOnce = 1024;
// Times by cuts that are short of the exact ones by more than this part ask for more cuts.
constexpr double kCutsMissing = 2e-4;

// Seconds a byte of the slowest resource that reads or moves load.
double SlowestSeconds(const Instance& instance) {
  double slowest = 0;
  const auto take = [&](const BlockClass& block_class, const Option& option) {
    for (size_t r = 0; r < instance.resources.size(); ++r) {
      double load = option.per_byte[r] > 0 ? 1 : 0;
      if (r == instance.compute_resource && option.recomputes > 0) {
        load += static_cast<double>(block_class.recompute_units) /
                static_cast<double>(block_class.bytes);
      }
      slowest =
          std::max(slowest, load / static_cast<double>(instance.resources[r].units_per_second));
    }
  };
  for (const BlockClass& block_class : instance.classes) {
    const OptionTable& table = instance.tables[block_class.table];
    for (size_t accesses = 0; accesses <= std::min<size_t>(1, table.accesses_max()); ++accesses) {
      for (StateIndex from = 0; from < table.state_count(); ++from) {
        for (StateIndex to = 0; to < table.state_count(); ++to) {
          for (const Option& option : table.Options(accesses, from, to)) take(block_class, option);
        }
      }
    }
  }
  return slowest;
}

class Search {
 public:
  Search(const Instance& instance, const Prices& prices, const ScheduleSearchOptions& options,
         Executor& executor, const std::function<bool(const SearchProgress&)>& progress)
      : instance_(instance),
        options_(options),
        executor_(executor),
        progress_(progress),
        prices_(instance, prices),
        readers_(instance),
        cuts_(instance) {
    best_.seconds = std::numeric_limits<double>::infinity();
  }

  absl::StatusOr<FoundSchedule> Run(absl::Span<const NamedSchedule> others) {
    const double unit = SlowestSeconds(instance_);
    for (size_t i = 0; i < options_.temperatures.size() && unit > 0; ++i) {
      if (GoOn(Sampled(options_.temperatures[i]))) Sample(options_.temperatures[i], unit, i);
    }
    if (GoOn("min")) Construct("min", BatchMin(instance_, readers_));
    if (GoOn("static")) {
      WorkingSchedule schedule(instance_, cuts_);
      if (FillStatically(schedule, prices_)) Offer("static", schedule.ToSchedule());
    }
    for (const NamedSchedule& other : others) {
      if (absl::Status status = CheckSchedule(instance_, other.schedule).status(); !status.ok()) {
        return absl::InvalidArgumentError(absl::StrCat(other.name, ": ", status.message()));
      }
      Offer(other.name, other.schedule);
    }
    std::stable_sort(candidates_.begin(), candidates_.end(), [](const auto& a, const auto& b) {
      return a.time.first_seconds < b.time.first_seconds;
    });
    for (size_t i = 0; i < std::min(options_.improved, candidates_.size()); ++i) {
      if (GoOn(candidates_[i].time.name)) Improve(candidates_[i]);
      candidates_[i].schedule = {};
    }
    if (best_.name.empty()) return absl::NotFoundError("no candidate for a schedule is feasible");
    for (const Candidate& candidate : candidates_) best_.candidates.push_back(candidate.time);
    return std::move(best_);
  }

 private:
  struct Candidate {
    CandidateTime time;
    Schedule schedule;
  };

  static std::string Sampled(double temperature) { return absl::StrCat("sampled ", temperature); }

  bool GoOn(const std::string& candidate) {
    trying_ = candidate;
    return Asked();
  }
  bool Asked() {
    if (!stopped_ && !progress_({trying_, best_.seconds})) stopped_ = true;
    return !stopped_;
  }

  void Sample(double temperature, double unit, size_t number) {
    const PathSampler sampler(instance_, prices_, temperature * unit);
    std::vector<Path> paths(instance_.block_count());
    std::vector<PathSampler::Buffers> buffers(executor_.lanes());
    executor_.Run((paths.size() + kBlocksAtOnce - 1) / kBlocksAtOnce,
                  [&](size_t item, size_t lane) {
                    // A stream of chance for each item, whoever runs it.
                    Rng mixed(options_.seed + 0x9e3779b97f4a7c15ull * (number + 1));
                    Rng rng(mixed.Next() ^ (item * 0xd1342543de82ef95ull));
                    const size_t end = std::min((item + 1) * kBlocksAtOnce, paths.size());
                    for (size_t block = item * kBlocksAtOnce; block < end; ++block) {
                      sampler.Draw(block, rng, buffers[lane], paths[block]);
                    }
                  });
    if (number == 0) HarvestCuts(paths);
    Construct(Sampled(temperature), std::move(paths));
  }

  // Repairs room where it must; no paths are no candidate.
  void Construct(const std::string& name, std::vector<Path> paths) {
    if (paths.size() != instance_.block_count()) return;
    WorkingSchedule schedule(instance_, cuts_);
    for (size_t block = 0; block < paths.size(); ++block) {
      schedule.Put(block, std::move(paths[block]));
    }
    if (RepairRoom(schedule, prices_, readers_, [this] { return Asked(); })) {
      Offer(name, schedule.ToSchedule());
    }
  }

  // Cuts where options tie, from the division of a schedule's phases.
  bool AddCuts(const std::vector<double>& shares) {
    const size_t resources = instance_.resources.size();
    std::map<std::vector<int>, std::pair<size_t, size_t>> seen;  // rounded: how often, where first
    for (size_t phase = 0; phase < instance_.phase_count; ++phase) {
      std::vector<int> rounded(resources);
      for (size_t r = 0; r < resources; ++r) {
        rounded[r] = static_cast<int>(std::lround(1e4 * shares[phase * resources + r]));
      }
      ++seen.emplace(std::move(rounded), std::make_pair(0, phase)).first->second.first;
    }
    std::vector<std::pair<size_t, size_t>> often;
    for (const auto& [rounded, place] : seen) often.push_back(place);
    std::sort(often.begin(), often.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    bool added = false;
    for (const auto& [count, phase] : often) {
      if (cuts_.Add(absl::MakeConstSpan(shares).subspan(phase * resources, resources)))
        added = true;
    }
    return added;
  }

  void HarvestCuts(const std::vector<Path>& paths) {
    Schedule schedule;
    schedule.first_change.push_back(0);
    for (const Path& path : paths) {
      schedule.changes.insert(schedule.changes.end(), path.begin(), path.end());
      schedule.first_change.push_back(schedule.changes.size());
    }
    (void)AddCuts(SplitOptions(instance_, schedule, executor_).shares);
  }

  // Times a schedule exactly and remembers it if it is the best so far.
  double Judge(const std::string& name, const Schedule& schedule) {
    const absl::StatusOr<ScheduleTime> time = CheckSchedule(instance_, schedule);
    if (!time.ok()) return std::numeric_limits<double>::infinity();
    if (best_.name.empty() || time->picoseconds < best_.picoseconds) {
      best_.schedule = schedule;
      best_.picoseconds = time->picoseconds;
      best_.seconds = std::nextafter(static_cast<double>(time->picoseconds) * 1e-12,
                                     std::numeric_limits<double>::infinity());
      best_.name = name;
    }
    return static_cast<double>(time->picoseconds) * 1e-12;
  }

  void Offer(const std::string& name, Schedule schedule) {
    Candidate candidate;
    candidate.time.name = name;
    (void)SplitOptions(instance_, schedule, executor_);
    candidate.time.first_seconds = Judge(name, schedule);
    candidate.time.seconds = candidate.time.first_seconds;
    if (candidate.time.first_seconds == std::numeric_limits<double>::infinity()) return;
    candidate.schedule = std::move(schedule);
    candidates_.push_back(std::move(candidate));
  }

  void Improve(Candidate& candidate) {
    for (int round = 0; round < 2; ++round) {
      WorkingSchedule working(instance_, cuts_);
      for (size_t block = 0; block < instance_.block_count(); ++block) {
        const absl::Span<const StateChange> changes = candidate.schedule.Changes(block);
        working.Put(block, Path(changes.begin(), changes.end()));
      }
      LocalSearchOptions local;
      local.passes = options_.passes;
      (void)ImproveLocally(working, prices_, local, [this] { return Asked(); });
      if (options_.exchange_passes > 0) {
        ExchangeOptions exchange;
        exchange.seed = options_.seed;
        exchange.passes = options_.exchange_passes;
        (void)ImproveByExchange(working, prices_, exchange, [this] { return Asked(); });
        (void)ImproveLocally(working, prices_, local, [this] { return Asked(); });
      }
      const double by_cuts = working.Seconds();
      candidate.schedule = working.ToSchedule();
      const SplitResult split = SplitOptions(instance_, candidate.schedule, executor_);
      candidate.time.seconds =
          std::min(candidate.time.seconds, Judge(candidate.time.name, candidate.schedule));
      if (split.seconds - by_cuts < kCutsMissing * split.seconds || !AddCuts(split.shares)) return;
    }
  }

  const Instance& instance_;
  const ScheduleSearchOptions& options_;
  Executor& executor_;
  const std::function<bool(const SearchProgress&)>& progress_;
  const PathPrices prices_;
  const PhaseReaders readers_;
  PhaseCuts cuts_;
  std::string trying_;
  bool stopped_ = false;
  std::vector<Candidate> candidates_;
  FoundSchedule best_;
};

}  // namespace

absl::StatusOr<FoundSchedule> FindSchedule(
    const Instance& instance, const Prices& prices, const ScheduleSearchOptions& options,
    absl::Span<const NamedSchedule> others, Executor& executor,
    const std::function<bool(const SearchProgress&)>& progress) {
  return Search(instance, prices, options, executor, progress).Run(others);
}

}  // namespace kvtier::bound
