// The options that name a trace, a machine and a model, of the commands that bound, plan and
// simulate.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/command.h"
#include "sim/machine.h"
#include "sim/model_spec.h"
#include "sim/placement_problem.h"

namespace kvtier::cli {

inline constexpr uint64_t kBlockTokens = 512;  // of Mooncake's traces

struct ProblemArguments {
  std::string trace{};
  std::string machine{};
  std::string model{};
  std::vector<std::string> tiers{};
  std::vector<std::string> overrides{};  // "PATH=VALUE"; --hbm and --dram add theirs
  std::string hbm{};
  std::string dram{};
  std::string phase = "step";
  std::string mode{};          // empty: as the machine reads
  uint64_t staging_bytes = 0;  // 0: as simulations choose
  uint64_t requests = sim::kRequestsMax;
  uint64_t sessions = 1;
  uint64_t block_tokens = kBlockTokens;
  uint64_t seed = 0;
};

// Adds the options. Which of --trace, --machine and --model are needed is for the command to say.
void AddProblemOptions(CLI::App& command, ProblemArguments& arguments);

struct Machinery {
  sim::Machine machine;
  sim::ModelSpec model;
};

// Read and overridden.
absl::StatusOr<Machinery> LoadMachinery(const ProblemArguments& arguments);
absl::StatusOr<sim::AnyTrace> LoadTrace(const ProblemArguments& arguments);
sim::ProblemOptions ProblemOptionsOf(const ProblemArguments& arguments);

// Whether any option that says what a trace is made of was given, by the name of the first.
std::string FirstProblemOption(const CLI::App& command);

// Fields that name the problem in JSON: trace, machine, model, tiers, gpu_memory_bytes, inclusive,
// overrides, mode, phase, requests, sessions, block_tokens, staging_bytes, seed.
void AppendProblem(const ProblemArguments& arguments, const sim::ProblemTerms& terms, Json& json);

}  // namespace kvtier::cli
