#include "tiering/bound/primal/schedule_search.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tiering/base/rng.h"
#include "tiering/base/stoppable_executor.h"
#include "tiering/bound/primal/batch_min.h"
#include "tiering/bound/primal/cost_to_go.h"
#include "tiering/bound/primal/exchange_search.h"
#include "tiering/bound/primal/local_search.h"
#include "tiering/bound/primal/option_split.h"
#include "tiering/bound/primal/path_prices.h"
#include "tiering/bound/primal/path_sampler.h"
#include "tiering/bound/primal/phase_readers.h"
#include "tiering/bound/primal/price_dive.h"
#include "tiering/bound/primal/room_repair.h"
#include "tiering/bound/primal/schedule_checker.h"
#include "tiering/bound/primal/static_fill.h"
#include "tiering/bound/primal/working_schedule.h"

namespace kvtier::bound {
namespace {

// Candidates that take longer than the best by more than this are not improved.
constexpr double kPromising = 1.1;
// Drawn paths that take longer than the best candidate by more than this, before there is room for
// them, are not repaired.
constexpr double kHopeless = 1.5;
// The sampler's weight of moves between accesses; exclusive copies want few.
constexpr double kRareMoves = 0.01;
constexpr size_t kBlocksAtOnce = 1024;
constexpr size_t kItemsAtOnce = 16;
constexpr size_t kPutBetweenQuestions = 1024;
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
      for (StateIndex from = 0; from < static_cast<StateIndex>(table.state_count()); ++from) {
        for (StateIndex to = 0; to < static_cast<StateIndex>(table.state_count()); ++to) {
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
        executor_(executor, options.stop),
        progress_(progress),
        prices_(instance, prices),
        readers_(instance),
        cuts_(instance) {
    best_.seconds = std::numeric_limits<double>::infinity();
  }

  absl::StatusOr<FoundSchedule> Run(absl::Span<const NamedSchedule> others) {
    OfferNoCache();
    const bool small = AtMost(2, options_.work_accesses / 4) == 2;
    // Where drawing paths may take longer than there is time, something is found first.
    const bool huge = instance_.access_count() > options_.work_accesses;
    if (huge) FillStatically();
    if (small) ConstructPlainly();
    SampleTemperatures();
    if (small && CostToGo::TableEntries(instance_) <= options_.work_accesses && GoOn("dive")) {
      (void)Construct("dive",
                      DivePriced(instance_, prices_, cuts_, readers_, [this] { return Asked(); }));
    }
    if (!small && candidates_.empty()) ConstructPlainly();
    for (const NamedSchedule& other : others) {
      absl::Status status = CheckSchedule(instance_, other.schedule, options_.stop).status();
      if (absl::IsCancelled(status)) break;
      if (!status.ok()) {
        return absl::InvalidArgumentError(absl::StrCat(other.name, ": ", status.message()));
      }
      (void)Offer(other.name, other.schedule);
    }
    std::stable_sort(candidates_.begin(), candidates_.end(), [](const auto& a, const auto& b) {
      return a.time.first_seconds < b.time.first_seconds;
    });
    for (size_t i = 0; i < candidates_.size(); ++i) {
      const bool promising =
          candidates_[i].time.first_seconds <= kPromising * candidates_.front().time.first_seconds;
      if (i < options_.improved && promising && GoOn(candidates_[i].time.name)) {
        Improve(candidates_[i]);
      }
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

  bool GoOn(const std::string& candidate) {
    trying_ = candidate;
    return Asked();
  }
  bool Asked() {
    if (stopped_) return false;
    stopped_ = (options_.stop && options_.stop()) || !progress_({trying_, best_.seconds});
    return !stopped_;
  }

  // `wanted`, or as many passes over all accesses as make `work` accesses, or one.
  size_t AtMost(size_t wanted, uint64_t work) const {
    const uint64_t fit = work / std::max<uint64_t>(instance_.access_count(), 1);
    return static_cast<size_t>(std::min<uint64_t>(wanted, std::max<uint64_t>(fit, 1)));
  }

  // That no block is ever kept, where all can be had without: it takes no search.
  void OfferNoCache() {
    Schedule schedule;
    for (size_t block = 0; block < instance_.block_count(); ++block) {
      const OptionTable& table = instance_.TableOf(block);
      const auto none = std::find(table.states().begin(), table.states().end(), TierSet{0});
      if (none == table.states().end()) return;
      const auto state = static_cast<StateIndex>(none - table.states().begin());
      if (!instance_.Accesses(block).empty() && table.Options(1, state, state).empty()) return;
      schedule.first_change.push_back(block);
      schedule.changes.push_back({instance_.birth[block], state});
    }
    schedule.first_change.push_back(instance_.block_count());
    if (!CheckSchedule(instance_, schedule, options_.stop).ok()) return;
    (void)GoOn("no cache");  // it is offered even where the time is up
    (void)Offer("no cache", std::move(schedule));
  }

  void ConstructPlainly() {
    if (GoOn("min"))
      (void)Construct("min", BatchMin(instance_, readers_, [this] { return Asked(); }));
    FillStatically();
  }
  void FillStatically() {
    if (!GoOn("static")) return;
    WorkingSchedule schedule(instance_, cuts_);
    if (bound::FillStatically(schedule, prices_, [this] { return Asked(); }))
      (void)Offer("static", schedule.ToSchedule());
  }

  void SampleTemperatures() {
    const double unit = SlowestSeconds(instance_);
    if (options_.samples == 0 || unit <= 0) return;
    const size_t samples = AtMost(options_.samples, options_.work_accesses / 4);
    size_t number = 0;
    SampleDownhill(unit, kRareMoves, (samples + 1) / 2, number);
    if (number < samples) SampleDownhill(unit, 1, samples, number);
  }

  // From the first temperature in the direction in which it gets better, to the `end`th sample.
  void SampleDownhill(double unit, double move_weight, size_t end, size_t& number) {
    const double first = Sample(options_.temperature, unit, move_weight, number++);
    for (const double factor : {0.5, 2.0}) {
      double best = first;
      for (double temperature = options_.temperature * factor; number < end;
           temperature *= factor) {
        const double seconds = Sample(temperature, unit, move_weight, number++);
        if (seconds >= best) break;
        best = seconds;
      }
      if (best < first) return;
    }
  }

  // The time of what was drawn and repaired.
  double Sample(double temperature, double unit, double move_weight, size_t number) {
    const std::string name =
        absl::StrCat(move_weight < 1 ? "sampled " : "sampled with moves ", temperature);
    if (!GoOn(name)) return std::numeric_limits<double>::infinity();
    const PathSampler sampler(instance_, prices_, temperature * unit, move_weight);
    std::vector<Path> paths(instance_.block_count());
    std::vector<PathSampler::Buffers> buffers(executor_.lanes());
    std::atomic<bool> without_path = false;
    const size_t items = (paths.size() + kBlocksAtOnce - 1) / kBlocksAtOnce;
    for (size_t first = 0; first < items; first += kItemsAtOnce) {
      if (!Asked()) return std::numeric_limits<double>::infinity();
      executor_.Run(std::min(kItemsAtOnce, items - first), [&](size_t offset, size_t lane) {
        // A stream of chance for each item, whoever runs it.
        const size_t item = first + offset;
        Rng mixed(options_.seed + 0x9e3779b97f4a7c15ull * (number + 1));
        Rng rng(mixed.Next() ^ (item * 0xd1342543de82ef95ull));
        const size_t end = std::min((item + 1) * kBlocksAtOnce, paths.size());
        for (size_t block = item * kBlocksAtOnce; block < end; ++block) {
          if (!sampler.Draw(block, rng, buffers[lane], paths[block])) without_path = true;
        }
      });
    }
    if (executor_.stopped() || without_path) return std::numeric_limits<double>::infinity();
    if (number == 0) HarvestCuts(paths);
    return Construct(name, std::move(paths));
  }

  // Repairs room where it must; no paths are no candidate. Returns its time, or infinity.
  double Construct(const std::string& name, std::vector<Path> paths) {
    const double never = std::numeric_limits<double>::infinity();
    if (paths.size() != instance_.block_count()) return never;
    WorkingSchedule schedule(instance_, cuts_);
    for (size_t block = 0; block < paths.size(); ++block) {
      if (block % kPutBetweenQuestions == 0 && !Asked()) return never;
      schedule.Put(block, std::move(paths[block]));
    }
    if (schedule.Seconds() > kHopeless * best_.seconds) return never;
    if (!RepairRoom(schedule, prices_, readers_, [this] { return Asked(); })) return never;
    return Offer(name, schedule.ToSchedule());
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
    const SplitResult split = SplitOptions(instance_, schedule, executor_);
    if (!executor_.stopped()) (void)AddCuts(split.shares);
  }

  // Times a schedule exactly and remembers it if it is the best so far.
  double Judge(const std::string& name, const Schedule& schedule) {
    absl::StatusOr<ScheduleTime> time = CheckSchedule(instance_, schedule, options_.stop);
    if (!time.ok()) return std::numeric_limits<double>::infinity();
    const double seconds = static_cast<double>(time->picoseconds) * 1e-12;
    if (best_.name.empty() || time->picoseconds < best_.time.picoseconds) {
      best_.schedule = schedule;
      best_.time = *std::move(time);
      // A double holds 2^53 exactly: the next one is not below.
      best_.seconds = std::nextafter(seconds, std::numeric_limits<double>::infinity());
      best_.name = name;
    }
    return seconds;
  }

  // Its time, or infinity if it is none.
  double Offer(const std::string& name, Schedule schedule) {
    Candidate candidate;
    candidate.time.name = name;
    (void)SplitOptions(instance_, schedule, executor_);
    if (executor_.stopped()) return std::numeric_limits<double>::infinity();
    candidate.time.first_seconds = Judge(name, schedule);
    candidate.time.seconds = candidate.time.first_seconds;
    const double seconds = candidate.time.first_seconds;
    if (seconds == std::numeric_limits<double>::infinity()) return seconds;
    candidate.schedule = std::move(schedule);
    candidates_.push_back(std::move(candidate));
    return seconds;
  }

  void Improve(Candidate& candidate) {
    for (int round = 0; round < 2; ++round) {
      WorkingSchedule working(instance_, cuts_);
      for (size_t block = 0; block < instance_.block_count(); ++block) {
        if (block % kPutBetweenQuestions == 0 && !Asked()) return;
        const absl::Span<const StateChange> changes = candidate.schedule.Changes(block);
        working.Put(block, Path(changes.begin(), changes.end()));
      }
      LocalSearchOptions local;
      local.passes = AtMost(options_.passes, options_.work_accesses);
      (void)ImproveLocally(working, prices_, local, [this] { return Asked(); });
      if (options_.exchange_passes > 0) {
        ExchangeOptions exchange;
        exchange.seed = options_.seed;
        exchange.passes = AtMost(options_.exchange_passes, options_.work_accesses);
        (void)ImproveByExchange(working, prices_, exchange, [this] { return Asked(); });
        (void)ImproveLocally(working, prices_, local, [this] { return Asked(); });
      }
      const double by_cuts = working.Seconds();
      candidate.schedule = working.ToSchedule();
      const SplitResult split = SplitOptions(instance_, candidate.schedule, executor_);
      if (executor_.stopped()) return;
      candidate.time.seconds =
          std::min(candidate.time.seconds, Judge(candidate.time.name, candidate.schedule));
      if (split.divided_seconds - by_cuts < kCutsMissing * split.divided_seconds ||
          !AddCuts(split.shares) || stopped_)
        return;
    }
  }

  const Instance& instance_;
  const ScheduleSearchOptions& options_;
  StoppableExecutor executor_;
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
