// `kvtier plan`.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "client/cli/bound_report.h"
#include "client/cli/command.h"
#include "client/cli/interrupt.h"
#include "client/cli/option_values.h"
#include "client/cli/problem_options.h"
#include "client/cli/progress.h"
#include "client/cli/simulation_report.h"
#include "client/cli/text_table.h"
#include "sim/plan.h"
#include "sim/plan_axis.h"
#include "sim/plan_price.h"
#include "sim/policy/policy_factory.h"
#include "tiering/base/status_macros.h"
#include "tiering/host/thread_executor.h"

namespace kvtier::cli {
namespace {

constexpr uint64_t kThreadsMax = 256;
// With a wider gap, prices are too far from the best ones to say what binds.
constexpr double kUnsettledGap = 0.05;

struct PlanArguments {
  ProblemArguments problem{};
  std::vector<std::string> vary{};
  uint64_t points = 5;
  bool points_given = false;
  std::vector<std::string> policies = {"lru", "min"};
  std::string price{};
  absl::Duration target;
  absl::Duration time_limit = absl::Seconds(30);
  uint64_t threads = 0;
  bool bound_only = false;
  bool progress = false;
  bool json = false;
};

// A combination whose machine is too small.
struct LeftOut {
  std::vector<uint64_t> values{};  // by axis
  std::string why{};
};

// A plan that was made, and what it was asked.
struct Plan {
  std::vector<sim::PlanAxis> axes{};
  std::vector<sim::PlanPoint> points{};
  std::vector<LeftOut> left_out{};
  sim::TierPrices prices{};  // empty: none were given
  sim::Cheapest cheapest{};
};

std::string ValueText(const sim::PlanAxis& axis, uint64_t value) {
  if (axis.unit == sim::Unit::kCapacity) return SizeText(value);
  return axis.is_load() ? absl::StrCat(value) : RateText(axis.name, value);
}

std::string SettingText(const Plan& plan, const sim::PlanPoint& point) {
  std::vector<std::string> parts;
  for (size_t axis = 0; axis < plan.axes.size(); ++axis)
    parts.push_back(
        absl::StrCat(plan.axes[axis].name, " ", ValueText(plan.axes[axis], point.values[axis])));
  return absl::StrJoin(parts, ", ");
}

// The limit that most of the bound is priced on: a resource, or the room of a tier.
std::string WhatBinds(const sim::PlanPoint& point) {
  if (!point.run.gap() || *point.run.gap() > kUnsettledGap) return "not settled";
  const bound::Instance& instance = point.problem.instance;
  std::vector<std::pair<double, std::string>> parts;
  for (size_t r = 0; r < instance.resources.size(); ++r)
    parts.emplace_back(point.binding.resource[r], instance.resources[r].name);
  std::stable_sort(parts.begin(), parts.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string text;
  for (const auto& [part, name] : parts) {
    if (part < 0.1) break;
    absl::StrAppendFormat(&text, "%s%s %.0f %%", text.empty() ? "" : ", ", name, 100 * part);
  }
  for (size_t j = 0; j < instance.tiers.size(); ++j) {
    if (point.binding.room[j] < 0.01) continue;
    absl::StrAppendFormat(&text, "%sroom in %s %.0f %%", text.empty() ? "" : ", ",
                          instance.tiers[j].name, 100 * point.binding.room[j]);
  }
  return text.empty() ? "-" : text;
}

// It does not depend on memories but the GPU's own, so it is the same at most points.
void PrintUncached(const std::vector<sim::PlanPoint>& points) {
  std::optional<double> least, most;
  for (const sim::PlanPoint& point : points) {
    if (!point.problem.uncached_s) return;
    least = std::min(least.value_or(*point.problem.uncached_s), *point.problem.uncached_s);
    most = std::max(most.value_or(0), *point.problem.uncached_s);
  }
  if (!least) return;
  std::printf("with no cache, every prompt computed whole: %s", ShortUpperText(*least).c_str());
  if (*most > *least) std::printf(" to %s", ShortUpperText(*most).c_str());
  std::printf("\n");
}

// Of a point that reaches the target: with what.
std::string WhatReaches(const sim::PlanPoint& point, double target_s) {
  if (point.problem.uncached_s.value_or(target_s + 1) <= target_s) return ", without any cache";
  const sim::SimulationResult* best = nullptr;
  for (const sim::SimulationResult& result : point.policies) {
    if (sim::KnowsFuture(result.policy)) continue;
    if (best == nullptr || result.time_ns < best->time_ns) best = &result;
  }
  return best == nullptr ? ", with a schedule that knows the future" : ", with " + best->policy;
}

void PrintPlan(const PlanArguments& arguments, const Plan& plan) {
  std::vector<std::string> titles;
  for (const sim::PlanAxis& axis : plan.axes) titles.push_back(axis.name + ">");
  if (!plan.prices.empty()) titles.emplace_back("price>");
  titles.insert(titles.end(), {"bound>", "best found>", "gap>"});
  if (!plan.points.empty()) {
    for (const sim::SimulationResult& result : plan.points[0].policies)
      titles.push_back(StarredPolicy(result.policy) + ">");
  }
  titles.emplace_back("what binds");
  TextTable table(titles);
  bool wide = false;
  for (const sim::PlanPoint& point : plan.points) {
    std::vector<std::string> cells;
    for (size_t axis = 0; axis < plan.axes.size(); ++axis)
      cells.push_back(ValueText(plan.axes[axis], point.values[axis]));
    if (!plan.prices.empty())
      cells.push_back(absl::StrFormat("%.2f", sim::PriceOf(plan.prices, point.machine)));
    cells.push_back(ShortLowerText(point.run.lower_bound_s));
    const std::optional<double> gap = point.run.gap();
    cells.push_back(gap ? ShortUpperText(*point.run.best_feasible_s) : "-");
    cells.push_back(gap ? absl::StrFormat("%.1f %%", 100 * *gap) : "-");
    wide = wide || !gap || *gap > kWideGap;
    for (const sim::SimulationResult& result : point.policies)
      cells.push_back(absl::StrFormat("%.5g s", result.Seconds()));
    cells.push_back(WhatBinds(point));
    table.AddRow(std::move(cells));
  }
  std::fputs(table.Text().c_str(), stdout);
  if (!plan.points.empty()) PrintStar(plan.points[0].policies);
  for (const sim::PlanPoint& point : plan.points) {
    if (std::any_of(point.policies.begin(), point.policies.end(),
                    [](const auto& result) { return result.refused_chunks > 0; })) {
      std::printf("With %s: ", SettingText(plan, point).c_str());
      PrintRefused(point.policies);
    }
  }
  PrintUncached(plan.points);
  if (wide) PrintWideGap();
  if (arguments.target == absl::ZeroDuration()) return;
  const std::string target = absl::FormatDuration(arguments.target);
  const auto setting = [&](size_t index) {
    return absl::StrFormat("%s, for %.2f", SettingText(plan, plan.points[index]),
                           sim::PriceOf(plan.prices, plan.points[index].machine));
  };
  const std::string reached =
      plan.cheapest.reached ? absl::StrCat(setting(*plan.cheapest.reached),
                                           WhatReaches(plan.points[*plan.cheapest.reached],
                                                       absl::ToDoubleSeconds(arguments.target)))
                            : "none of these";
  std::printf("\ncheapest that is known to take at most %s: %s\n", target.c_str(), reached.c_str());
  std::printf("cheapest that the bound does not rule out: %s\n",
              plan.cheapest.possible ? setting(*plan.cheapest.possible).c_str() : "none of these");
}

Json SetJson(const Plan& plan, const std::vector<uint64_t>& values) {
  Json json = Json::object();
  for (size_t axis = 0; axis < plan.axes.size(); ++axis) json[plan.axes[axis].name] = values[axis];
  return json;
}

Json PointJson(const PlanArguments& arguments, const Plan& plan, const sim::PlanPoint& point) {
  Json json = {{"set", SetJson(plan, point.values)}};
  json["price"] =
      plan.prices.empty() ? Json(nullptr) : Json(sim::PriceOf(plan.prices, point.machine));
  AppendProblem(arguments.problem, point.problem.terms, json);
  AppendBound(point.problem, point.run, point.binding, json);
  json.erase("progress");
  json.erase("series");
  json["policies"] = Json::object();
  for (const sim::SimulationResult& result : point.policies)
    json["policies"][result.policy] = PolicyJson(result);
  return json;
}

void PrintPlanJson(const PlanArguments& arguments, const Plan& plan) {
  Json json = {{"kind", "plan"},
               {"trace", arguments.problem.trace},
               {"machine", arguments.problem.machine},
               {"model", arguments.problem.model},
               {"seed", arguments.problem.seed},
               {"vary", Json::array()},
               {"points", Json::array()}};
  for (const sim::PlanAxis& axis : plan.axes)
    json["vary"].push_back({{"name", axis.name}, {"values", axis.values}});
  for (const sim::PlanPoint& point : plan.points)
    json["points"].push_back(PointJson(arguments, plan, point));
  const auto index = [](std::optional<size_t> point) {
    return point ? Json(*point) : Json(nullptr);
  };
  json["left_out"] = Json::array();
  for (const LeftOut& point : plan.left_out)
    json["left_out"].push_back({{"set", SetJson(plan, point.values)}, {"why", point.why}});
  json["target_s"] = arguments.target == absl::ZeroDuration()
                         ? Json(nullptr)
                         : Json(absl::ToDoubleSeconds(arguments.target));
  json["cheapest"] = index(plan.cheapest.reached);
  json["cheapest_possible"] = index(plan.cheapest.possible);
  PrintJson(json);
}

// What --vary varies is set by no other option.
absl::Status CheckVariedOnce(const PlanArguments& arguments, const sim::PlanAxis& axis) {
  const auto check = [&](const std::string& option, const std::string& name) -> absl::Status {
    sim::PlanAxis set;
    set.name = name;
    if (!axis.Overlaps(set)) return absl::OkStatus();
    return UsageError(absl::StrCat(option, " sets what --vary ", axis.name, " sets"));
  };
  if (!arguments.problem.hbm.empty()) KVTIER_RETURN_IF_ERROR(check("--hbm", "hbm"));
  if (!arguments.problem.dram.empty()) KVTIER_RETURN_IF_ERROR(check("--dram", "dram"));
  for (const std::string& set : arguments.problem.overrides)
    KVTIER_RETURN_IF_ERROR(check("--set " + set, set.substr(0, set.find('='))));
  return absl::OkStatus();
}

// "link=" without a name is the link of a machine that has one.
absl::StatusOr<std::string> WithLinkNamed(const std::string& vary, const PlanArguments& arguments) {
  constexpr absl::string_view kLink = "link=";
  if (!absl::StartsWith(vary, kLink)) return vary;
  KVTIER_ASSIGN_OR_RETURN(const Machinery machinery, LoadMachinery(arguments.problem));
  std::set<std::string> names;
  for (const sim::MachineTier& tier : machinery.machine.tiers) {
    if (tier.link) names.insert("link." + tier.link->name);
  }
  if (names.size() == 1) return absl::StrCat(*names.begin(), "=", vary.substr(kLink.size()));
  return UsageError(absl::StrCat("--vary link: ", machinery.machine.name, " has ",
                                 names.empty() ? "no link" : absl::StrJoin(names, " and "),
                                 "; name one"));
}

absl::StatusOr<Plan> MakePlan(const PlanArguments& arguments) {
  Plan plan;
  std::vector<std::string> vary;
  for (const std::string& text : arguments.vary) {
    KVTIER_ASSIGN_OR_RETURN(std::string named, WithLinkNamed(text, arguments));
    vary.push_back(std::move(named));
  }
  auto axes =
      sim::ParsePlanAxes(vary, arguments.points_given ? static_cast<uint32_t>(arguments.points) : 0,
                         sim::kPlanPointsMax);
  if (!axes.ok()) return UsageError(std::string(axes.status().message()));
  for (const sim::PlanAxis& axis : *axes) KVTIER_RETURN_IF_ERROR(CheckVariedOnce(arguments, axis));
  plan.axes = *std::move(axes);
  if (arguments.target > absl::ZeroDuration() && arguments.price.empty())
    return UsageError("--target needs --price: it asks which point is the cheapest");
  KVTIER_RETURN_IF_ERROR(CheckPolicies("--policies", arguments.policies));
  KVTIER_ASSIGN_OR_RETURN(const Machinery machinery, LoadMachinery(arguments.problem));
  if (!arguments.price.empty()) {
    auto prices = sim::ParseTierPrices(arguments.price, machinery.machine);
    if (!prices.ok()) return UsageError(std::string(prices.status().message()));
    plan.prices = *std::move(prices);
  }
  KVTIER_ASSIGN_OR_RETURN(const sim::AnyTrace trace, LoadTrace(arguments.problem));
  CatchSignals();
  sim::PlanOptions options;
  options.problem = ProblemOptionsOf(arguments.problem);
  if (arguments.policies.front() != "none") options.policies = arguments.policies;
  options.run.search.seed = arguments.problem.seed;
  options.run.find_schedule = !arguments.bound_only;
  options.run.time_limit_s = absl::ToDoubleSeconds(arguments.time_limit);
  options.run.now_s = SteadySeconds;
  options.run.stop = [] { return CaughtSignal() != 0; };
  Progress progress("plan", 0, arguments.progress);
  options.on_progress = [&](size_t point, size_t points, const std::string& what) {
    progress.Show(absl::StrFormat("point %d of %d, %s", point + 1, points, what));
    return CaughtSignal() == 0;
  };
  options.on_left_out = [&](const sim::PlanPoint& point, const absl::Status& why) {
    PrintError(absl::StrCat(SettingText(plan, point), " is left out: ", why.message()));
    plan.left_out.push_back({point.values, std::string(why.message())});
  };
  ThreadExecutor executor(arguments.threads);
  KVTIER_ASSIGN_OR_RETURN(plan.points, sim::RunPlan(trace, machinery.machine, machinery.model,
                                                    plan.axes, options, executor));
  if (arguments.target > absl::ZeroDuration())
    plan.cheapest =
        sim::FindCheapest(plan.points, plan.prices, absl::ToDoubleSeconds(arguments.target));
  return plan;
}

}  // namespace

void AddPlanCommand(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<PlanArguments>();
  CLI::App* command = app.add_subcommand(
      "plan", "What more or less memory, link speed or load would change, and what binds");
  AddProblemOptions(*command, arguments->problem);
  for (const char* const name : {"--trace", "--machine", "--model"})
    command->get_option(name)->required();
  command
      ->add_option("--vary", arguments->vary,
                   "What differs: a tier's capacity (dram=64GiB..1TiB), a link's speed "
                   "(link.pcie=25..100GB/s),\ncompute, or load, so many times the trace's traffic "
                   "(load=1..4). A..B/N: N values, each as many\ntimes the one before; A,B,C: "
                   "these. Given several times: all combinations")
      ->required()
      ->take_all()
      ->allow_extra_args(false)
      ->type_name("NAME=VALUES");
  AddCountOption(*command, "--points", arguments->points, 2, sim::kAxisValuesMax,
                 "Values of a range that does not say how many; by default 3 where --vary is given "
                 "three times or\nmore, 2 where that makes too many combinations");
  command
      ->add_option("--policies,--policy", arguments->policies,
                   absl::StrCat("none, or some of ", absl::StrJoin(sim::PolicyNames(), ", "),
                                " (default lru,min)"))
      ->delimiter(',')
      ->type_name("NAME,...");
  command
      ->add_option("--price", arguments->price,
                   "Money for a GiB of a tier, as in hbm=100,dram=4.5: each point gets a price")
      ->type_name("TIER=PRICE,...");
  AddTimeOption(*command, "--target", arguments->target, absl::Nanoseconds(1),
                absl::Hours(24 * 365),
                "With --price, name the cheapest that takes at most this time");
  AddTimeOption(*command, "--time-limit", arguments->time_limit, absl::Milliseconds(1),
                absl::Hours(24 * 30), "For the bound and the schedule of each point (default 30s)");
  AddCountOption(*command, "--threads", arguments->threads, 0, kThreadsMax,
                 "Threads; 0: as many as processors");
  command->add_flag("--bound-only", arguments->bound_only, "Look for no schedules");
  command->add_flag("--progress", arguments->progress,
                    "Show progress also where stderr is no terminal");
  command->add_flag("--json", arguments->json, "Print JSON (docs/cli.md lists the fields)");
  command->footer(
      "Example: kvtier plan --trace conversation.jsonl --machine h100-pcie5 --model llama-3.1-8b "
      "--tiers dram \\\n         --vary dram=64GiB..1TiB --price dram=4.5 --target 2h\n"
      "docs/PLANNING.md walks through one question.");
  SetAction(*command, exit_code, [arguments, command]() -> absl::Status {
    arguments->points_given = command->count("--points") > 0;
    auto plan = MakePlan(*arguments);
    if (CaughtSignal() != 0) return CheckInterrupted();
    if (!plan.ok()) return plan.status();
    arguments->json ? PrintPlanJson(*arguments, *plan) : PrintPlan(*arguments, *plan);
    return absl::OkStatus();
  });
}

}  // namespace kvtier::cli
