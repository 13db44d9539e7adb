#include "bench/sim_figures.h"

#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_map.h"
#include "bench/samples.h"
#include "sim/attention_generator.h"
#include "sim/attention_trace.h"
#include "sim/placement_problem.h"
#include "sim/spec_reader.h"
#include "sim/trace_generator.h"
#include "sim/trace_reader.h"
#include "sim/trace_simulation.h"
#include "tiering/base/status_macros.h"

namespace kvtier::bench {
namespace {

double CpuNs() { return 1e9 * static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

struct Scenario {
  const char* name;
  sim::AnyTrace trace;
  sim::Machine machine;
  sim::ProblemOptions problem{};
  std::vector<uint64_t> accesses{};  // blocks by number, in the trace's order
};

absl::StatusOr<sim::Trace> Chats(const SimFigureOptions& options) {
  sim::WorkloadOptions workload = sim::DefaultWorkload(sim::WorkloadKind::kChat);
  workload.requests = options.requests;
  workload.seed = options.seed;
  sim::Trace trace{.block_tokens = workload.block_tokens};
  KVTIER_RETURN_IF_ERROR(sim::GenerateTrace(workload, [&](std::string_view line) {
    return sim::AppendMooncakeLine(line, "made up", trace);
  }));
  return trace;
}

absl::StatusOr<Scenario> OfRequests(const char* name, const sim::ModelSpec& model, bool two_tiers,
                                    const SimFigureOptions& options) {
  KVTIER_ASSIGN_OR_RETURN(sim::Machine machine, sim::ReadMachine("h100-pcie5"));
  KVTIER_ASSIGN_OR_RETURN(sim::Trace trace, Chats(options));
  KVTIER_ASSIGN_OR_RETURN(const sim::PrefixWorkload workload,
                          sim::MakePrefixWorkload(trace, model, {}));
  const uint64_t bytes = workload.chunk_tokens * workload.bytes_per_token;
  const uint64_t room = workload.chunks.size() / 2;
  machine.tiers[0].capacity_bytes = model.weight_bytes + room / 8 * bytes;
  machine.tiers[1].capacity_bytes = room * bytes;
  Scenario scenario{.name = name, .trace = std::move(trace), .machine = std::move(machine)};
  if (!two_tiers) scenario.problem.tier_names = {"dram"};
  scenario.accesses.assign(workload.request_chunks.begin(), workload.request_chunks.end());
  return scenario;
}

absl::StatusOr<Scenario> OfAttention(const sim::ModelSpec& model, const SimFigureOptions& options) {
  KVTIER_ASSIGN_OR_RETURN(sim::Machine machine, sim::ReadMachine("h100-pcie5"));
  sim::AttentionOptions attention;
  attention.geometry.model = model.name;
  attention.geometry.planes = model.layers;
  attention.geometry.block_tokens = 16;
  attention.geometry.prompt_tokens = 8192;
  attention.geometry.steps = options.steps;
  attention.read_milli = 100;
  attention.seed = options.seed;
  KVTIER_ASSIGN_OR_RETURN(const std::string bytes,
                          sim::GenerateAttentionTrace(attention, [] { return absl::OkStatus(); }));
  KVTIER_ASSIGN_OR_RETURN(sim::AttentionTrace trace, sim::DecodeAttentionTrace(bytes, "made up"));
  const uint64_t all = 8192 * model.KvBytesPerToken();
  machine.tiers[0].capacity_bytes = model.weight_bytes + all / 4;
  Scenario scenario{.name = "sim_attention", .trace = {}, .machine = std::move(machine)};
  for (uint32_t step = 0; step < options.steps; ++step) {
    for (uint32_t plane = 0; plane < model.layers; ++plane) {
      for (const uint32_t block : trace.BlocksOf(step, plane))
        scenario.accesses.push_back(uint64_t{block} * model.layers + plane);
    }
  }
  scenario.trace = std::move(trace);
  return scenario;
}

uint64_t LookUp(const std::vector<uint64_t>& accesses,
                const absl::flat_hash_map<uint64_t, uint64_t>& table) {
  uint64_t sum = 0;
  for (const uint64_t block : accesses) sum += table.find(block)->second;
  return sum;
}

absl::StatusOr<Figure> Measure(const Scenario& scenario, const sim::ModelSpec& model,
                               uint32_t runs) {
  absl::flat_hash_map<uint64_t, uint64_t> table;
  for (const uint64_t block : scenario.accesses) table[block] = block + 1;
  const auto count = static_cast<double>(scenario.accesses.size());
  Samples samples;
  for (uint32_t run = 0; run < runs; ++run) {
    const double start = CpuNs();
    KVTIER_ASSIGN_OR_RETURN(
        const sim::SimulationResult result,
        sim::SimulateTrace(scenario.trace, scenario.machine, model, scenario.problem, "lru"));
    const double ns = (CpuNs() - start) / count;
    if (result.accesses != scenario.accesses.size())
      return absl::InternalError("a simulation left accesses out");
    // Many, as one is shorter than the clock's tick.
    constexpr int kPasses = 20;
    const double pass = CpuNs();
    uint64_t sum = 0;
    for (int i = 0; i < kPasses; ++i) sum += LookUp(scenario.accesses, table);
    const double pass_ns = (CpuNs() - pass) / count / kPasses;
    if (sum == 0) return absl::InternalError("no block was looked up");
    samples.Add(ns, pass_ns);
  }
  return samples.ToFigure(scenario.name,
                          "ceiling: a pass over the accesses that looks each block up in a hash "
                          "table; one thread, processor time");
}

}  // namespace

absl::StatusOr<std::vector<Figure>> SimFigures(const SimFigureOptions& options) {
  if (options.requests == 0 || options.steps == 0 || options.runs == 0) {
    return absl::InvalidArgumentError("requests, steps and runs are above zero");
  }
  KVTIER_ASSIGN_OR_RETURN(const sim::ModelSpec model, sim::ReadModel("llama-3.1-8b"));
  std::vector<Scenario> scenarios;
  for (const auto& [name, two_tiers] :
       {std::pair{"sim_requests_one_tier", false}, std::pair{"sim_requests_two_tiers", true}}) {
    KVTIER_ASSIGN_OR_RETURN(Scenario scenario, OfRequests(name, model, two_tiers, options));
    scenarios.push_back(std::move(scenario));
  }
  KVTIER_ASSIGN_OR_RETURN(Scenario attention, OfAttention(model, options));
  scenarios.push_back(std::move(attention));
  std::vector<Figure> figures;
  for (const Scenario& scenario : scenarios) {
    KVTIER_ASSIGN_OR_RETURN(Figure figure, Measure(scenario, model, options.runs));
    figures.push_back(std::move(figure));
  }
  return figures;
}

}  // namespace kvtier::bench
