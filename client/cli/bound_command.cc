// `kvtier bound` and `kvtier bound verify`.
#include <sys/resource.h>

#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "client/cli/bound_report.h"
#include "client/cli/command.h"
#include "client/cli/interrupt.h"
#include "client/cli/option_values.h"
#include "client/cli/output_file.h"
#include "client/cli/problem_options.h"
#include "client/cli/progress.h"
#include "client/cli/simulation_report.h"
#include "client/cli/text_table.h"
#include "sim/binding.h"
#include "sim/bound_run.h"
#include "sim/input_file.h"
#include "sim/placement_problem.h"
#include "sim/policy/policy_factory.h"
#include "sim/trace_simulation.h"
#include "tiering/base/status_macros.h"
#include "tiering/base/stoppable_executor.h"
#include "tiering/bound/certificate.h"
#include "tiering/bound/instance_file.h"
#include "tiering/bound/verifier.h"
#include "tiering/host/thread_executor.h"

namespace kvtier::cli {
namespace {

constexpr uint64_t kInstanceBytesMax = uint64_t{16} << 30;
constexpr uint64_t kCertificateBytesMax = uint64_t{1} << 30;
constexpr uint64_t kThreadsMax = 256;
constexpr const char* kDefaultPolicies[] = {"lru", "static", "min"};

// Of both commands: what is bounded.
struct Problem {
  ProblemArguments arguments{};
  std::string instance{};  // a file in place of all that
  bool json = false;
};

struct BoundOptions {
  Problem problem{};
  absl::Duration time_limit = absl::Seconds(60);
  std::string certificate{};
  std::string export_instance{};
  uint64_t threads = 0;
  uint64_t window = 0;                  // phases; 0: none
  std::vector<std::string> policies{};  // empty: kDefaultPolicies, as far as they work
  bool bound_only = false;
  bool progress = false;
};

struct VerifyOptions {
  Problem problem{};
  std::string certificate{};
};

void AddProblem(CLI::App& command, Problem& problem) {
  AddProblemOptions(command, problem.arguments);
  command
      .add_option("--instance", problem.instance,
                  "A placement problem as a file, in place of trace, machine and model")
      ->type_name("FILE");
  command.add_flag("--json", problem.json, "Print JSON (docs/cli.md lists the fields)");
}

// What the library cannot check: options that need each other.
absl::Status CheckArguments(const Problem& problem, const std::string& given) {
  if (!problem.instance.empty()) {
    return given.empty() ? absl::OkStatus()
                         : UsageError(given + " is of a trace, and --instance is given");
  }
  for (const auto& [name, value] : {std::pair{"--trace", &problem.arguments.trace},
                                    {"--machine", &problem.arguments.machine},
                                    {"--model", &problem.arguments.model}}) {
    if (value->empty()) return UsageError(absl::StrCat(name, " is required, or --instance"));
  }
  return absl::OkStatus();
}

// What an instance is made of.
struct Source {
  Machinery machinery{};
  sim::AnyTrace trace{};
};

absl::StatusOr<Source> LoadSource(const ProblemArguments& arguments) {
  Source source;
  KVTIER_ASSIGN_OR_RETURN(source.machinery, LoadMachinery(arguments));
  KVTIER_ASSIGN_OR_RETURN(source.trace, LoadTrace(arguments));
  return source;
}

// `source` is none where the problem is a file.
absl::StatusOr<sim::PlacementProblem> Load(const Problem& problem,
                                           const std::optional<Source>& source) {
  if (source) {
    return sim::MakeProblem(source->trace, source->machinery.machine, source->machinery.model,
                            ProblemOptionsOf(problem.arguments));
  }
  KVTIER_ASSIGN_OR_RETURN(const std::string bytes,
                          sim::ReadInputFile(problem.instance, kInstanceBytesMax));
  absl::StatusOr<bound::Instance> instance = bound::ReadInstance(bytes);
  if (!instance.ok()) {
    return absl::Status(instance.status().code(),
                        absl::StrCat(problem.instance, ": ", instance.status().message()));
  }
  sim::PlacementProblem result{.instance = *std::move(instance)};
  result.terms.tiers = result.instance.tiers;
  result.terms.phase = "phase";
  result.blocks = result.instance.block_count();
  result.accesses = result.instance.access_count();
  return result;
}

std::string ProgressText(const sim::BoundProgress& now) {
  std::string text = absl::StrFormat("%.0f s, %s, bound %s", now.seconds, now.stage,
                                     SecondsText(now.lower_bound_s));
  if (now.best_feasible_s) {
    absl::StrAppend(&text, ", best schedule ", SecondsText(now.best_feasible_s));
    if (now.lower_bound_s > 0)
      absl::StrAppendFormat(&text, ", gap %.2f %%",
                            100 * (*now.best_feasible_s / now.lower_bound_s - 1));
  }
  return text;
}

// Those that were asked for by name must work on the trace, however long they take; the others may
// not, and each of them has the time limit for itself.
absl::StatusOr<std::vector<sim::SimulationResult>> SimulatePolicies(
    const BoundOptions& options, const std::optional<Source>& source) {
  std::vector<sim::SimulationResult> results;
  const bool wanted = !options.policies.empty();
  if (!source || (wanted && options.policies.front() == "none")) return results;
  std::vector<std::string> policies = options.policies;
  if (!wanted) policies.assign(std::begin(kDefaultPolicies), std::end(kDefaultPolicies));
  for (const std::string& policy : policies) {
    const double end_s = wanted ? std::numeric_limits<double>::infinity()
                                : SteadySeconds() + absl::ToDoubleSeconds(options.time_limit);
    absl::StatusOr<sim::SimulationResult> result = sim::SimulateTrace(
        source->trace, source->machinery.machine, source->machinery.model,
        ProblemOptionsOf(options.problem.arguments), policy,
        {.stop = [end_s] { return CaughtSignal() != 0 || SteadySeconds() >= end_s; }});
    KVTIER_RETURN_IF_ERROR(CheckInterrupted());
    if (!result.ok() && wanted) return result.status();
    if (absl::IsCancelled(result.status())) {
      PrintError(absl::StrCat(
          policy, " is left out: its simulation takes longer than --time-limit ",
          absl::FormatDuration(options.time_limit), "; --policies ", policy, " waits for it"));
      continue;
    }
    if (!result.ok()) {
      PrintError(absl::StrCat(policy, " is left out: ", result.status().message()));
      continue;
    }
    results.push_back(*std::move(result));
  }
  return results;
}

void PrintPolicies(const std::vector<sim::SimulationResult>& policies, double lower_bound_s) {
  if (policies.empty()) return;
  TextTable table({"policy", "time>", "above the bound>", "hits>", "last half>"});
  for (const sim::SimulationResult& result : policies) {
    const double seconds = result.Seconds();
    table.AddRow({StarredPolicy(result.policy), SecondsText(seconds),
                  lower_bound_s > 0
                      ? absl::StrFormat("%.2f %%", 100 * (seconds / lower_bound_s - 1))
                      : std::string("-"),
                  absl::StrFormat("%.2f %%", 100 * result.HitRate()),
                  absl::StrFormat("%.2f %%", 100 * result.HitRateLastHalf())});
  }
  std::printf("\n%s", table.Text().c_str());
  PrintStar(policies);
}

uint64_t PeakBytes() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

absl::Status RunBoundCommand(const BoundOptions& options) {
  const ProblemArguments& arguments = options.problem.arguments;
  KVTIER_RETURN_IF_ERROR(
      CheckApart({options.certificate, options.export_instance},
                 {options.problem.instance, arguments.trace, arguments.machine, arguments.model}));
  std::optional<Source> source;
  if (options.problem.instance.empty()) {
    KVTIER_ASSIGN_OR_RETURN(source, LoadSource(options.problem.arguments));
  }
  KVTIER_ASSIGN_OR_RETURN(const sim::PlacementProblem problem, Load(options.problem, source));
  CatchSignals();
  if (!options.export_instance.empty()) {
    KVTIER_RETURN_IF_ERROR(
        WriteFile(options.export_instance, bound::InstanceBytes(problem.instance)));
  }
  // What cannot be written should not cost the time of a bound either.
  std::unique_ptr<OutputFile> certificate;
  if (!options.certificate.empty()) {
    KVTIER_ASSIGN_OR_RETURN(certificate, OutputFile::Create(options.certificate));
  }
  // First, as one that cannot run should not cost the time of a bound.
  KVTIER_ASSIGN_OR_RETURN(const std::vector<sim::SimulationResult> policies,
                          SimulatePolicies(options, source));
  source.reset();  // its memory is the solver's
  ThreadExecutor executor(options.threads);
  sim::BoundRunOptions run_options;
  run_options.search.seed = options.problem.arguments.seed;
  run_options.dual.window_phases = static_cast<uint32_t>(options.window);
  run_options.find_schedule = !options.bound_only;
  run_options.time_limit_s = absl::ToDoubleSeconds(options.time_limit);
  run_options.now_s = SteadySeconds;
  run_options.stop = [] { return CaughtSignal() != 0; };
  absl::StatusOr<sim::BoundRun> run;
  {
    Progress progress("bound", 0, options.progress);
    run_options.on_progress = [&](const sim::BoundProgress& now) {
      progress.Show(ProgressText(now));
      return true;
    };
    run = sim::RunBound(problem.instance, problem.schedules, run_options, {}, executor);
  }
  KVTIER_RETURN_IF_ERROR(CheckInterrupted());
  if (!run.ok()) return run.status();
  for (const sim::SimulationResult& result : policies) run->Offer(result);
  KVTIER_RETURN_IF_ERROR(run->Check());
  StoppableExecutor stoppable(executor, run_options.stop);
  const sim::Binding binding = sim::FindBinding(problem.instance, run->prices, stoppable);
  if (stoppable.stopped()) return CheckInterrupted();
  // The result is printed even where this fails: it may have taken hours.
  absl::Status written;
  if (certificate != nullptr) {
    const std::string bytes = bound::CertificateBytes(run->certificate);
    written = certificate->Write(bytes.data(), bytes.size());
    if (written.ok()) written = certificate->Commit();
  }
  if (options.problem.json) {
    Json json;
    json["kind"] = "bound";
    AppendProblem(options.problem.arguments, problem.terms, json);
    AppendBound(problem, *run, binding, json);
    json["policies"] = Json::object();
    for (const sim::SimulationResult& result : policies)
      json["policies"][result.policy] = PolicyJson(result);
    json["peak_bytes"] = PeakBytes();
    PrintJson(json);
  } else {
    PrintBound(problem, *run, binding);
    PrintPolicies(policies, run->lower_bound_s);
    PrintRefused(policies);
  }
  return written;
}

absl::Status RunVerify(const VerifyOptions& options) {
  KVTIER_ASSIGN_OR_RETURN(const std::string bytes,
                          sim::ReadInputFile(options.certificate, kCertificateBytesMax));
  absl::StatusOr<bound::Certificate> certificate = bound::ReadCertificate(bytes);
  if (!certificate.ok()) {
    return absl::Status(certificate.status().code(),
                        absl::StrCat(options.certificate, ": ", certificate.status().message()));
  }
  std::optional<Source> source;
  if (options.problem.instance.empty()) {
    KVTIER_ASSIGN_OR_RETURN(source, LoadSource(options.problem.arguments));
  }
  KVTIER_ASSIGN_OR_RETURN(const sim::PlacementProblem problem, Load(options.problem, source));
  source.reset();
  CatchSignals();
  const absl::StatusOr<double> seconds =
      bound::VerifiedSeconds(problem.instance, *certificate, [] { return CaughtSignal() == 0; });
  KVTIER_RETURN_IF_ERROR(CheckInterrupted());
  if (!seconds.ok()) {
    return absl::Status(seconds.status().code(),
                        absl::StrCat(options.certificate, ": ", seconds.status().message()));
  }
  if (options.problem.json) {
    Json json;
    json["kind"] = "verify";
    AppendProblem(options.problem.arguments, problem.terms, json);
    json["certificate"] = options.certificate;
    json["lower_bound_s"] = *seconds;
    json["instance_digest"] = HexText(certificate->instance_digest);
    PrintJson(json);
    return absl::OkStatus();
  }
  const ProblemArguments& arguments = options.problem.arguments;
  std::printf("verified: no schedule takes less than %s\n", LowerSecondsText(*seconds).c_str());
  if (options.problem.instance.empty()) {
    std::string tiers;
    for (const bound::Tier& tier : problem.terms.tiers)
      absl::StrAppend(&tiers, tiers.empty() ? "" : ", ", tier.name, " ",
                      SizeText(tier.capacity_bytes));
    const std::string& mode = problem.terms.mode;
    std::printf("trace %s, machine %s, model %s, %s%s%s, a phase is a %s%s\n",
                arguments.trace.c_str(), arguments.machine.c_str(), arguments.model.c_str(),
                tiers.c_str(), mode.empty() ? "" : ", ", mode.c_str(), problem.terms.phase.c_str(),
                RestrictionText(problem.instance).c_str());
  } else {
    std::printf("instance %s%s\n", options.problem.instance.c_str(),
                RestrictionText(problem.instance).c_str());
  }
  return absl::OkStatus();
}

// What stands before `verify` is the bound's, and would be left out.
absl::Status CheckNothingBefore(const CLI::App& bound, const std::string& certificate) {
  for (const CLI::Option* option : bound.get_options()) {
    if (option->count() == 0) continue;
    return UsageError(absl::StrCat(option->get_name(),
                                   " stands before verify; options come after it, as in kvtier "
                                   "bound verify ",
                                   certificate, " ", option->get_name()));
  }
  return absl::OkStatus();
}

void AddVerifyCommand(CLI::App& bound, int& exit_code) {
  auto options = std::make_shared<VerifyOptions>();
  CLI::App* command =
      bound.add_subcommand("verify", "Checks a certificate against the trace it is about");
  command->add_option("FILE", options->certificate, "The certificate")->required();
  AddProblem(*command, options->problem);
  command->footer(
      "Takes the same trace, machine, model and options that make the problem as `kvtier bound` "
      "did. In whole numbers "
      "only, and by a program\n"
      "that shares nothing with the one that found the bound but how problems are read.");
  SetAction(*command, exit_code, [options, command, &bound]() -> absl::Status {
    KVTIER_RETURN_IF_ERROR(CheckNothingBefore(bound, options->certificate));
    KVTIER_RETURN_IF_ERROR(CheckArguments(options->problem, FirstProblemOption(*command)));
    return RunVerify(*options);
  });
}

}  // namespace

void AddBoundCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<BoundOptions>();
  CLI::App* command = app.add_subcommand(
      "bound", "The time that no placement could beat, and how near to it one comes");
  AddProblem(*command, options->problem);
  AddTimeOption(
      *command, "--time-limit", options->time_limit, absl::Milliseconds(1), absl::Hours(24 * 30),
      "For bound and schedule, about; each policy that is simulated unasked may take as long "
      "before (default 60s)");
  command
      ->add_option("--certificate", options->certificate,
                   "Write what proves the bound, for `kvtier bound verify`")
      ->type_name("FILE");
  command
      ->add_option("--export-instance", options->export_instance,
                   "Write the placement problem, for --instance")
      ->type_name("FILE");
  AddCountOption(*command, "--threads", options->threads, 0, kThreadsMax,
                 "Threads; 0: as many as processors. The result does not depend on them, but "
                 "for what the time limit cuts off");
  AddCountOption(*command, "--window", options->window, 0, bound::kPhasesMax,
                 "Find the prices of so many phases at a time, one window after another, before "
                 "those of all.\nMay help on long traces, and only where the time limit is long: "
                 "cut off among its windows the bound\nis far lower. 0: no windows");
  command
      ->add_option("--policies,--policy", options->policies,
                   absl::StrCat("Simulated beside it: none, or some of ",
                                absl::StrJoin(sim::PolicyNames(), ", "),
                                "\n(default: lru, static and min where they can be)"))
      ->delimiter(',')
      ->type_name("NAME,...");
  command->add_flag("--bound-only", options->bound_only, "Look for no schedule");
  command->add_flag("--progress", options->progress,
                    "Show progress also where stderr is no terminal");
  command->footer(
      "Examples: kvtier bound --trace conversation.jsonl --machine h100-sxm --model llama-3.1-8b "
      "--tiers dram\n"
      "          kvtier bound --trace steps.kvattn --machine gh200 --model llama-3.1-8b --hbm "
      "40GiB "
      "--phase layer\n"
      "docs/BOUND.md says what the number means and what it assumes.");
  AddVerifyCommand(*command, exit_code);
  // It comes after that of `verify`, whose exit code is to stay.
  command->final_callback([options, command, &exit_code] {
    if (!command->get_subcommands().empty()) return;
    const std::string policies = command->count("--policies") > 0 ? "--policies" : "";
    const std::string given = FirstProblemOption(*command);
    absl::Status status = CheckArguments(options->problem, given.empty() ? policies : given);
    if (status.ok()) status = CheckPolicies("--policies", options->policies);
    if (status.ok()) status = RunBoundCommand(*options);
    exit_code = Finish(std::move(status));
  });
}

}  // namespace kvtier::cli
