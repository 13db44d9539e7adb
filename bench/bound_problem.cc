#include "bench/bound_problem.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sim/attention_generator.h"
#include "sim/attention_trace.h"
#include "sim/machine.h"
#include "sim/model_spec.h"
#include "sim/spec_reader.h"
#include "tiering/base/status_macros.h"

namespace kvtier::bench {
namespace {

constexpr uint64_t kGpuRate = 400'000'000'000;
constexpr uint64_t kPeerRate = 150'000'000'000;
constexpr uint64_t kDramRate = 50'000'000'000;
constexpr uint64_t kFlopRate = 1'000'000'000'000'000;
constexpr uint32_t kBlockTokens = 16;

sim::MachineTier Remote(const char* name, sim::TierKind kind, uint64_t bytes, uint64_t rate) {
  return {.name = name,
          .kind = kind,
          .capacity_bytes = bytes,
          .bytes_per_second = rate,
          .link = sim::MachineLink{.name = absl::StrCat(name, "-link"),
                                   .to_gpu_bytes_per_second = rate,
                                   .from_gpu_bytes_per_second = rate}};
}

sim::Machine MachineOf(const BoundProblem& problem, const sim::ModelSpec& model) {
  const uint64_t bytes = uint64_t{problem.blocks} * kBlockTokens * model.KvBytesPerTokenAndPlane();
  sim::Machine machine;
  machine.name = "bench";
  machine.flops_per_second = kFlopRate;
  machine.read_mode = sim::ReadMode::kInPlace;
  machine.inclusive = problem.inclusive;
  machine.tiers.push_back({.name = "hbm",
                           .kind = sim::TierKind::kHbm,
                           .capacity_bytes = model.weight_bytes + bytes * problem.gpu_milli / 1000,
                           .bytes_per_second = kGpuRate});
  if (problem.peer_milli > 0)
    machine.tiers.push_back(
        Remote("peer", sim::TierKind::kPeer, bytes * problem.peer_milli / 1000, kPeerRate));
  machine.tiers.push_back(Remote("dram", sim::TierKind::kDram, bytes, kDramRate));
  return machine;
}

absl::StatusOr<sim::ModelSpec> ModelOf(const BoundProblem& problem) {
  KVTIER_ASSIGN_OR_RETURN(sim::ModelSpec model, sim::ReadModel("llama-3.1-8b"));
  model.layers = problem.layers;
  model.query_heads = 1;
  model.score_dim = model.value_dim = 1;
  model.weight_bytes = model.pass_weight_bytes = model.active_parameters = 1;
  const double read_seconds = 1e-3 * problem.read_milli * problem.blocks * kBlockTokens *
                              static_cast<double>(model.KvBytesPerTokenAndPlane()) / kDramRate;
  model.active_parameters +=
      static_cast<uint64_t>(1e-3 * problem.floor_milli * read_seconds * kFlopRate / 2);
  return model;
}

}  // namespace

const std::vector<BoundProblem>& BoundProblems() {
  static const auto* const problems = [] {
    auto* const made = new std::vector<BoundProblem>;
    const auto add = [&](const char* name, uint32_t blocks, uint32_t steps, uint32_t layers,
                         uint32_t read_milli, double gap, double seconds) -> BoundProblem& {
      made->push_back({.name = name,
                       .blocks = blocks,
                       .steps = steps,
                       .layers = layers,
                       .read_milli = read_milli,
                       .gap_wanted = gap,
                       .seconds_wanted = seconds});
      return made->back();
    };
    add("20k-exclusive", 20'000, 300, 1, 100, 0.004, 25);
    add("20k-inclusive", 20'000, 300, 1, 100, 0.007, 25).inclusive = true;
    add("100k", 100'000, 1000, 1, 80, 0.013, 90);
    add("1m", 1'000'000, 300, 1, 50, 0.013, 90);
    add("layers", 16'000, 100, 16, 100, 0.02, 120);
    BoundProblem& three = add("layers-three-tiers", 16'000, 100, 16, 100, 0.035, 120);
    three.inclusive = true;
    three.gpu_milli = 100;
    three.peer_milli = 50;
    BoundProblem& strict = add("strict", 8'000, 100, 16, 100, 0.02, 120);
    strict.inclusive = true;
    strict.floor_milli = 50;
    strict.mode = sim::AttentionMode::kStrict;
    add("paper", 83'000, 10'240, 32, 402, 0.02, 900).gpu_milli = 300;
    return made;
  }();
  return *problems;
}

absl::StatusOr<BoundProblem> FindBoundProblem(std::string_view name) {
  std::vector<std::string> names;
  for (const BoundProblem& problem : BoundProblems()) {
    if (problem.name == name) return problem;
    names.push_back(problem.name);
  }
  return absl::NotFoundError(absl::StrCat("no problem is called ", std::string(name),
                                          "; there are ", absl::StrJoin(names, ", ")));
}

absl::StatusOr<bound::Instance> MakeBoundProblem(const BoundProblem& problem, uint64_t seed,
                                                 const std::function<absl::Status()>& check) {
  KVTIER_ASSIGN_OR_RETURN(const sim::ModelSpec model, ModelOf(problem));
  sim::AttentionOptions options;
  options.read_milli = problem.read_milli;
  options.seed = seed;
  options.geometry.model = model.name;
  options.geometry.planes = problem.layers;
  options.geometry.block_tokens = kBlockTokens;
  options.geometry.prompt_tokens =
      uint64_t{problem.blocks} / problem.layers * kBlockTokens - problem.steps;
  options.geometry.steps = problem.steps;
  KVTIER_ASSIGN_OR_RETURN(std::string bytes, sim::GenerateAttentionTrace(options, check));
  KVTIER_ASSIGN_OR_RETURN(const sim::AttentionTrace trace,
                          sim::DecodeAttentionTrace(bytes, problem.name));
  bytes = {};  // large ones are not held twice
  KVTIER_ASSIGN_OR_RETURN(
      sim::AttentionInstance made,
      sim::MakeAttentionInstance(
          trace, MachineOf(problem, model), model,
          {.phase = problem.layers > 1 ? sim::AttentionPhase::kLayer : sim::AttentionPhase::kStep,
           .mode = problem.mode}));
  return std::move(made.instance);
}

}  // namespace kvtier::bench
