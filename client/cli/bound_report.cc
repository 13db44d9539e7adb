#include "client/cli/bound_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "absl/strings/str_format.h"
#include "client/cli/text_table.h"
#include "tiering/bound/resource_use.h"

namespace kvtier::cli {
namespace {

constexpr uint32_t kBucketsMax = 256;

// Phases in equal runs.
class Buckets {
 public:
  explicit Buckets(uint32_t phases) : phases_(phases), count_(std::min(phases, kBucketsMax)) {}

  uint32_t count() const { return count_; }
  uint32_t First(uint32_t bucket) const {
    return static_cast<uint32_t>(uint64_t{bucket} * phases_ / count_);
  }
  // Means of `value(phase)`.
  template <typename Value>
  Json Means(const Value& value) const {
    Json means = Json::array();
    for (uint32_t bucket = 0; bucket < count_; ++bucket) {
      double sum = 0;
      for (uint32_t phase = First(bucket); phase < First(bucket + 1); ++phase) sum += value(phase);
      means.push_back(sum / (First(bucket + 1) - First(bucket)));
    }
    return means;
  }

 private:
  uint32_t phases_;
  uint32_t count_;
};

Json SeriesJson(const bound::Instance& instance, const sim::BoundRun& run) {
  const Buckets buckets(instance.phase_count);
  Json series;
  series["phase"] = Json::array();
  for (uint32_t bucket = 0; bucket < buckets.count(); ++bucket)
    series["phase"].push_back(buckets.First(bucket));
  series["share"] = Json::object();
  for (size_t r = 0; r < instance.resources.size(); ++r)
    series["share"][instance.resources[r].name] =
        buckets.Means([&](uint32_t phase) { return run.prices.Share(phase)[r]; });
  series["room_s_per_gib"] = Json::object();
  series["occupancy_bytes"] = Json::object();
  for (size_t j = 0; j < instance.tiers.size(); ++j) {
    const std::string& name = instance.tiers[j].name;
    series["room_s_per_gib"][name] = buckets.Means(
        [&](uint32_t phase) { return run.prices.Room(phase)[j] * static_cast<double>(1u << 30); });
    const bound::ScheduleTime* const best = run.best_schedule();
    series["occupancy_bytes"][name] =
        best == nullptr ? Json(nullptr) : buckets.Means([&](uint32_t phase) {
          return static_cast<double>(best->phase_bytes[size_t{phase} * instance.tiers.size() + j]);
        });
  }
  return series;
}

// What one counts in the last of so many digits.
double LastDigit(double seconds, int digits) {
  return seconds > 0 ? std::pow(10, std::floor(std::log10(seconds)) - (digits - 1)) : 1;
}

Json OrNull(std::optional<double> number) { return number ? Json(*number) : Json(nullptr); }

}  // namespace

std::string LowerSecondsText(double seconds) {
  const double digit = LastDigit(seconds, 10);
  return SecondsText(digit * std::floor(seconds / digit));
}

std::string UpperSecondsText(std::optional<double> seconds) {
  if (!seconds) return "-";
  const double digit = LastDigit(*seconds, 10);
  return SecondsText(digit * std::ceil(*seconds / digit));
}

std::string ShortLowerText(double seconds) {
  const double digit = LastDigit(seconds, 5);
  return absl::StrFormat("%.5g s", digit * std::floor(seconds / digit));
}

std::string ShortUpperText(double seconds) {
  const double digit = LastDigit(seconds, 5);
  return absl::StrFormat("%.5g s", digit * std::ceil(seconds / digit));
}

std::string RateText(absl::string_view resource, uint64_t units_per_second) {
  const auto rate = static_cast<double>(units_per_second);
  return resource == "compute" ? absl::StrFormat("%.4g TFLOP/s", rate / 1e12)
                               : absl::StrFormat("%.4g GB/s", rate / 1e9);
}

std::string SecondsText(std::optional<double> seconds) {
  return seconds ? absl::StrFormat("%.10g s", *seconds) : "-";
}

std::string RestrictionText(const bound::Instance& instance) {
  return bound::UseOf(instance).recomputes ? ", computed only where they are read" : "";
}

void AppendBound(const sim::PlacementProblem& problem, const sim::BoundRun& run,
                 const sim::Binding& binding, Json& json) {
  const bound::Instance& instance = problem.instance;
  json["lower_bound_s"] = run.lower_bound_s;
  json["best_feasible_s"] = OrNull(run.best_feasible_s);
  json["gap"] = OrNull(run.gap());
  json["roofline_s"] = run.roofline_s;
  json["uncached_s"] = OrNull(problem.uncached_s);
  json["blocks"] = problem.blocks;
  json["phases"] = instance.phase_count;
  json["accesses"] = problem.accesses;
  json["placed_blocks"] = instance.block_count();
  json["placed_accesses"] = instance.access_count();
  json["seconds"] = run.seconds;
  json["best_feasible_from"] = run.best_from;
  json["best_feasible_simulated"] = run.simulated.has_value();
  json["progress"] = Json::array();
  for (const sim::BoundProgress& point : run.progress)
    json["progress"].push_back({{"seconds", point.seconds},
                                {"lower_bound_s", point.lower_bound_s},
                                {"best_feasible_s", OrNull(point.best_feasible_s)}});
  json["series"] = SeriesJson(instance, run);
  json["links"] = Json::object();
  for (size_t r = 0; r < instance.resources.size(); ++r) {
    json["links"][instance.resources[r].name] = {
        {"units", OrNull(run.BestUnits(instance, r))},
        {"units_per_second", instance.resources[r].units_per_second},
        {"binding", binding.resource[r]}};
  }
  json["room"] = Json::object();
  for (size_t j = 0; j < instance.tiers.size(); ++j)
    json["room"][instance.tiers[j].name] = {{"binding", binding.room[j]}};
}

void PrintBound(const sim::PlacementProblem& problem, const sim::BoundRun& run,
                const sim::Binding& binding) {
  const bound::Instance& instance = problem.instance;
  std::printf("no schedule takes less than  %s, certified\n",
              LowerSecondsText(run.lower_bound_s).c_str());
  std::printf("best schedule found          %s", UpperSecondsText(run.best_feasible_s).c_str());
  if (run.gap()) {
    // Candidates of the search are named as the policies whose rule they began with.
    std::printf(
        run.simulated ? ", %.2f %% above (%s, simulated)" : ", %.2f %% above (searched, from %s)",
        100 * *run.gap(), run.best_from.c_str());
  }
  std::printf("\nmemories of any size         %s (the roofline)\n",
              LowerSecondsText(run.roofline_s).c_str());
  if (problem.uncached_s)
    std::printf("every prompt computed whole  %s (no cache)\n",
                SecondsText(problem.uncached_s).c_str());
  std::printf("\n");
  std::printf("%llu blocks, %llu reads of them in %u phases (each a %s)",
              static_cast<unsigned long long>(problem.blocks),
              static_cast<unsigned long long>(problem.accesses), instance.phase_count,
              problem.terms.phase.c_str());
  for (const bound::Tier& tier : instance.tiers)
    std::printf(", %s %s", tier.name.c_str(), SizeText(tier.capacity_bytes).c_str());
  std::printf("%s\n\n", RestrictionText(instance).c_str());
  TextTable table({"what binds", "how much there is>", "part of the bound>"});
  const auto part = [](double of_bound) { return absl::StrFormat("%.1f %%", 100 * of_bound); };
  for (size_t r = 0; r < instance.resources.size(); ++r) {
    table.AddRow({instance.resources[r].name,
                  RateText(instance.resources[r].name, instance.resources[r].units_per_second),
                  part(binding.resource[r])});
  }
  for (size_t j = 0; j < instance.tiers.size(); ++j) {
    table.AddRow({"room in " + instance.tiers[j].name, SizeText(instance.tiers[j].capacity_bytes),
                  part(binding.room[j])});
  }
  std::fputs(table.Text().c_str(), stdout);
  std::printf(
      "This is of the best possible schedule, not of a policy; room counts apart from the rest.\n");
  if (run.gap() && *run.gap() > kWideGap) PrintWideGap();
}

void PrintWideGap() {
  std::printf(
      "Where the gap is wide, bound and best schedule are not settled, nor is what binds: try a "
      "longer --time-limit.\n");
}

}  // namespace kvtier::cli
