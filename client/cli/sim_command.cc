// `kvtier sim`.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/cli/command.h"
#include "client/cli/interrupt.h"
#include "client/cli/option_values.h"
#include "client/cli/output_file.h"
#include "client/cli/problem_options.h"
#include "client/cli/simulation_report.h"
#include "client/cli/text_table.h"
#include "sim/placement_problem.h"
#include "sim/policy/policy_factory.h"
#include "sim/replay_order.h"
#include "sim/trace_simulation.h"
#include "tiering/base/status_macros.h"

namespace kvtier::cli {
namespace {

struct SimOptions {
  ProblemArguments problem;
  std::vector<std::string> policies;
  bool json = false;
  bool phases = false;
  bool settle = false;
  uint64_t segment_bytes = 0;
  std::string hits;  // file; empty: none
};

struct Simulated {
  sim::ProblemTerms terms{};
  std::vector<sim::SimulationResult> results{};  // by policy
  std::vector<double> seconds{};                 // that they took
};

absl::StatusOr<Simulated> SimulateAll(const SimOptions& options, const Machinery& machinery,
                                      const sim::AnyTrace& trace) {
  const StopCheck stop = [] { return CaughtSignal() != 0; };
  Simulated simulated;
  KVTIER_ASSIGN_OR_RETURN(simulated.terms, sim::TermsOf(trace, machinery.machine, machinery.model,
                                                        ProblemOptionsOf(options.problem)));
  for (const std::string& policy : options.policies) {
    const absl::Time start = absl::Now();
    absl::StatusOr<sim::SimulationResult> result = sim::SimulateTrace(
        trace, machinery.machine, machinery.model, ProblemOptionsOf(options.problem), policy,
        {.settle = options.settle, .segment_bytes = options.segment_bytes, .stop = stop});
    KVTIER_RETURN_IF_ERROR(CheckInterrupted());
    if (!result.ok()) return result.status();
    simulated.results.push_back(*std::move(result));
    simulated.seconds.push_back(absl::ToDoubleSeconds(absl::Now() - start));
  }
  return simulated;
}

void PrintResults(const SimOptions& options, const std::vector<sim::SimulationResult>& results) {
  TextTable table({"policy", "time>", "stalled>", "hits>", "last half>", "read from", "moved>"});
  for (const sim::SimulationResult& result : results) {
    std::vector<std::string> tiers;
    uint64_t moved = 0;
    for (const sim::SimulationResult::Tier& tier : result.tiers) {
      tiers.push_back(absl::StrCat(tier.name, " ", SizeText(tier.read_bytes)));
      moved += tier.moved_in_bytes;
    }
    table.AddRow({result.policy, absl::StrFormat("%.5g s", result.Seconds()),
                  absl::StrFormat("%.5g s", static_cast<double>(result.stall_ns) / 1e9),
                  absl::StrFormat("%.2f %%", 100 * result.HitRate()),
                  absl::StrFormat("%.2f %%", 100 * result.HitRateLastHalf()),
                  absl::StrJoin(tiers, ", "), SizeText(moved)});
  }
  std::fputs(table.Text().c_str(), stdout);
  std::printf("%zu phases, %llu accesses of %s\n", results[0].phase_ns.size(),
              static_cast<unsigned long long>(results[0].accesses), options.problem.trace.c_str());
}

absl::Status WriteHits(OutputFile& file, const sim::SimulationResult& result) {
  std::string lines;
  for (size_t i = 0; i < result.phase_hits.size(); ++i)
    lines += sim::HitLine(result.phase_accesses[i], result.phase_hits[i]);
  KVTIER_RETURN_IF_ERROR(file.Write(lines.data(), lines.size()));
  return file.Commit();
}

absl::Status RunSim(const SimOptions& options) {
  KVTIER_RETURN_IF_ERROR(CheckPolicies("--policy", options.policies));
  if (!options.hits.empty() && options.policies.size() != 1)
    return UsageError("--hits is for one policy");
  KVTIER_RETURN_IF_ERROR(CheckApart(
      {options.hits}, {options.problem.trace, options.problem.machine, options.problem.model}));
  KVTIER_ASSIGN_OR_RETURN(const Machinery machinery, LoadMachinery(options.problem));
  KVTIER_ASSIGN_OR_RETURN(const sim::AnyTrace trace, LoadTrace(options.problem));
  if (!options.hits.empty() && std::holds_alternative<sim::AttentionTrace>(trace))
    return absl::InvalidArgumentError("--hits is for traces of requests; this is one of attention");
  CatchSignals();  // from here on there may be a temporary file
  // Before the time that simulations take.
  std::unique_ptr<OutputFile> hits;
  if (!options.hits.empty()) {
    KVTIER_ASSIGN_OR_RETURN(hits, OutputFile::Create(options.hits));
  }
  KVTIER_ASSIGN_OR_RETURN(const Simulated simulated, SimulateAll(options, machinery, trace));
  const std::vector<sim::SimulationResult>& results = simulated.results;
  const absl::Status written = hits == nullptr ? absl::OkStatus() : WriteHits(*hits, results[0]);
  if (!options.json) {
    PrintResults(options, results);
    PrintRefused(results);
    return written;
  }
  Json policies = Json::object();
  for (size_t i = 0; i < results.size(); ++i)
    policies[results[i].policy] = SimulationJson(results[i], simulated.seconds[i], options.phases);
  Json json;
  json["kind"] = "sim";
  AppendProblem(options.problem, simulated.terms, json);
  json["settle"] = options.settle;
  json["segment_bytes"] = options.segment_bytes == 0 ? Json(nullptr) : Json(options.segment_bytes);
  json["set"] = options.problem.overrides;
  json["phases"] = results[0].phase_ns.size();
  json["accesses"] = results[0].accesses;
  json["policies"] = std::move(policies);
  PrintJson(json);
  return written;
}

}  // namespace

void AddSimCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<SimOptions>();
  CLI::App* command = app.add_subcommand(
      "sim", "Runs the engine on a simulated machine: what policies make of a trace");
  AddProblemOptions(*command, options->problem);
  for (const char* needed : {"--trace", "--machine", "--model"})
    command->get_option(needed)->required();
  command
      ->add_option("--policy,--policies", options->policies,
                   absl::StrCat("One or more of ", absl::StrJoin(sim::PolicyNames(), ", ")))
      ->required()
      ->delimiter(',')
      ->type_name("NAME,...");
  command->add_flag("--json", options->json, "JSON instead of text");
  command
      ->add_option("--hits", options->hits,
                   "Written: a line a request, with a 1 for each chunk of its prompt that was read "
                   "and a 0 for\neach that was not")
      ->type_name("FILE");
  command->add_flag("--settle", options->settle,
                    "Of requests: the engine moves blocks between requests only, until it has "
                    "nothing left to move. Hits are\nthose of kvtier replay --workers 1 --settle "
                    "with the same policy, capacities and segments");
  AddSizeOption(*command, "--segment", options->segment_bytes, 4096, uint64_t{1} << 40,
                "Of requests: tiers come in segments of this size, as the daemon's pools; by "
                "default small ones");
  command->add_flag("--phases", options->phases, "Each phase's time and hits, in the JSON");
  std::vector<std::string> knowing = sim::PolicyNames();
  std::erase_if(knowing, [](const std::string& name) { return !sim::KnowsFuture(name); });
  command->footer(absl::StrCat(
      "Policies that know the future: ", absl::StrJoin(knowing, ", "),
      ". No daemon is needed; time is simulated.\n"
      "Example: kvtier sim --trace t.jsonl --machine h100-pcie5 --model llama-3.1-8b --tiers dram "
      "--dram 256GiB --policy lru,s3fifo,min"));
  SetAction(*command, exit_code, [options] { return RunSim(*options); });
}

}  // namespace kvtier::cli
