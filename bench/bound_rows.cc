#include "bench/bound_rows.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_format.h"
#include "bench/samples.h"
#include "sim/bound_run.h"
#include "tiering/base/executor.h"
#include "tiering/base/status_macros.h"
#include "tiering/bound/evaluation.h"
#include "tiering/bound/verifier.h"

namespace kvtier::bench {
namespace {

// Of the seconds wanted, the time limit: the last step of a search ends after it.
constexpr double kOfWanted = 0.98;
constexpr size_t kEvaluations = 5;

double CpuSeconds() {
  std::timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// From here on the kernel's peak is that of what follows; where it refuses, of the whole run.
void ForgetPeak() { std::ofstream("/proc/self/clear_refs") << '5'; }

uint64_t PeakBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    uint64_t kib = 0;
    if (word == "VmHWM:" && status >> kib) return kib * 1024;
  }
  return 0;
}

// What a pass over all accesses takes that looks up one number of each one's phase.
double PassNs(const bound::Instance& instance) {
  std::vector<double> of_phase(instance.phase_count);
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) of_phase[phase] = phase;
  volatile double sink = 0;  // so that the work is not left out
  const double start = CpuSeconds();
  double sum = 0;
  for (const uint32_t phase : instance.access_phase) sum += of_phase[phase];
  sink = sink + sum;
  return 1e9 * (CpuSeconds() - start) / static_cast<double>(instance.access_count());
}

// The median of some, as an ascent's are: with memory and branches that the ones before have met.
double EvaluationNs(const bound::Instance& instance, const bound::Prices& prices) {
  InlineExecutor executor;
  bound::Evaluator evaluator(instance, executor);
  bound::Evaluation evaluation;
  evaluator.Hard(prices, &evaluation);  // touches its memory
  std::array<double, kEvaluations> seconds{};
  for (double& one : seconds) {
    const double start = CpuSeconds();
    evaluator.Hard(prices, &evaluation);
    one = CpuSeconds() - start;
  }
  std::nth_element(seconds.begin(), seconds.begin() + kEvaluations / 2, seconds.end());
  return 1e9 * seconds[kEvaluations / 2] / static_cast<double>(instance.access_count());
}

absl::StatusOr<BoundRow> Measure(const BoundProblem& problem, uint64_t seed,
                                 const std::function<absl::Status()>& check) {
  KVTIER_ASSIGN_OR_RETURN(const bound::Instance instance, MakeBoundProblem(problem, seed, check));
  BoundRow row{.problem = problem,
               .seed = seed,
               .blocks = instance.block_count(),
               .phases = instance.phase_count,
               .accesses = instance.access_count()};
  ForgetPeak();
  row.pass_ns = PassNs(instance);
  sim::BoundRunOptions options;
  options.time_limit_s = kOfWanted * problem.seconds_wanted;
  options.now_s = CpuSeconds;
  options.on_progress = [&](const sim::BoundProgress&) { return check().ok(); };
  InlineExecutor executor;
  const double start = CpuSeconds();
  const auto wall_start = Clock::now();
  KVTIER_ASSIGN_OR_RETURN(const sim::BoundRun run,
                          sim::RunBound(instance, {}, options, {}, executor));
  KVTIER_RETURN_IF_ERROR(check());
  row.total_s = CpuSeconds() - start;
  row.wall_s = 1e-9 * NsSince(wall_start, 1);
  for (const sim::BoundProgress& progress : run.progress) {
    if (progress.stage == "certified") row.bound_s = progress.seconds;
  }
  row.lower_bound_s = run.lower_bound_s;
  row.best_feasible_s = run.best_feasible_s.value_or(0);
  row.gap = run.gap().value_or(-1);
  row.evaluation_ns = EvaluationNs(instance, run.prices);
  const double verify_start = CpuSeconds();
  KVTIER_RETURN_IF_ERROR(bound::VerifiedSeconds(instance, run.certificate).status());
  row.verify_s = CpuSeconds() - verify_start;
  row.peak_bytes = PeakBytes();
  return row;
}

std::string Line(const BoundRow& row, const std::string& seed) {
  return absl::StrFormat(
      "%-20s %5s %9d %8d %10d %11.6g %11s %9s %8.3f %7.1f %7.1f %7.1f %7.2f %6.1f %6.2f "
      "%7.2f\n",
      row.problem.name, seed, row.blocks, row.phases, row.accesses, row.lower_bound_s,
      row.gap < 0 ? "none" : absl::StrFormat("%.6g", row.best_feasible_s), GapText(row),
      100 * row.problem.gap_wanted, row.bound_s, row.total_s, row.wall_s, row.verify_s,
      row.evaluation_ns, row.pass_ns, static_cast<double>(row.peak_bytes) / (1 << 30));
}

// The largest of each number, those of one problem.
BoundRow Worst(absl::Span<const BoundRow> rows) {
  BoundRow worst = rows.front();
  bool none = false;
  for (const BoundRow& row : rows) {
    none = none || row.gap < 0;
    if (row.gap > worst.gap) {
      worst.lower_bound_s = row.lower_bound_s;
      worst.best_feasible_s = row.best_feasible_s;
    }
    for (double BoundRow::*const field :
         {&BoundRow::gap, &BoundRow::bound_s, &BoundRow::total_s, &BoundRow::wall_s,
          &BoundRow::verify_s, &BoundRow::evaluation_ns, &BoundRow::pass_ns}) {
      worst.*field = std::max(worst.*field, row.*field);
    }
    worst.accesses = std::max(worst.accesses, row.accesses);
    worst.peak_bytes = std::max(worst.peak_bytes, row.peak_bytes);
  }
  if (none) worst.gap = -1;
  return worst;
}

}  // namespace

absl::StatusOr<std::vector<BoundRow>> BoundRows(const BoundRowOptions& options) {
  std::vector<BoundRow> rows;
  for (const BoundProblem& problem : options.problems) {
    for (uint64_t seed = 1; seed <= options.seeds; ++seed) {
      KVTIER_ASSIGN_OR_RETURN(BoundRow row, Measure(problem, seed, options.check));
      options.on_row(row);
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

std::string BoundRowsToJson(absl::Span<const BoundRow> rows) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const BoundRow& row : rows) {
    nlohmann::ordered_json json = {{"name", row.problem.name},
                                   {"seed", row.seed},
                                   {"blocks", row.blocks},
                                   {"phases", row.phases},
                                   {"accesses", row.accesses},
                                   {"lower_bound_s", row.lower_bound_s},
                                   {"best_feasible_s", row.best_feasible_s},
                                   {"gap", row.gap},
                                   {"gap_wanted", row.problem.gap_wanted},
                                   {"bound_cpu_s", row.bound_s},
                                   {"cpu_s", row.total_s},
                                   {"cpu_s_wanted", row.problem.seconds_wanted},
                                   {"wall_s", row.wall_s},
                                   {"verify_cpu_s", row.verify_s},
                                   {"evaluation_ns", row.evaluation_ns},
                                   {"ceiling_ns", row.pass_ns},
                                   {"peak_bytes", row.peak_bytes}};
    if (row.gap < 0) json["gap"] = json["best_feasible_s"] = nullptr;
    list.push_back(std::move(json));
  }
  return nlohmann::ordered_json{{"rows", std::move(list)}}.dump(2);
}

std::string GapText(const BoundRow& row) {
  return row.gap < 0 ? "none" : absl::StrFormat("%.3f %%", 100 * row.gap);
}

std::string BoundRowsToText(absl::Span<const BoundRow> rows) {
  std::string text =
      absl::StrFormat("%-20s %5s %9s %8s %10s %11s %11s %9s %8s %7s %7s %7s %7s %6s %6s %7s\n",
                      "problem", "seed", "blocks", "phases", "accesses", "bound s", "best s", "gap",
                      "wanted %", "bound", "all", "wall", "verify", "ns", "pass", "GiB");
  for (size_t i = 0; i < rows.size();) {
    size_t end = i;
    for (; end < rows.size() && rows[end].problem.name == rows[i].problem.name; ++end) {
      text += Line(rows[end], absl::StrFormat("%d", rows[end].seed));
    }
    if (end - i > 1) text += Line(Worst(rows.subspan(i, end - i)), "worst");
    i = end;
  }
  return text +
         "bound, all, verify: CPU seconds until the bound was certified, with the schedule, and of "
         "the verifier. ns: of the\nbound with its loads, an access; pass: its ceiling, a pass "
         "over "
         "the accesses. GiB: most that was resident.\n";
}

}  // namespace kvtier::bench
