#include "client/cli/problem_options.h"

#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/option_values.h"
#include "sim/spec_fields.h"
#include "sim/spec_reader.h"
#include "tiering/base/status_macros.h"

namespace kvtier::cli {
namespace {

constexpr size_t kSizeTextBytesMax = 64;
constexpr const char* kProblemOptions[] = {
    "--trace",    "--machine",  "--model",        "--tiers", "--hbm",  "--dram",   "--set",
    "--requests", "--sessions", "--block-tokens", "--phase", "--mode", "--staging"};

}  // namespace

void AddProblemOptions(CLI::App& command, ProblemArguments& arguments) {
  command
      .add_option("--trace", arguments.trace,
                  "An attention trace; or Mooncake JSONL, a coding agent's session as JSON, or a "
                  "directory of such\nsessions (.json)")
      ->type_name("FILE");
  command
      .add_option("--machine", arguments.machine,
                  "A YAML file, or one of " + absl::StrJoin(sim::MachineNames(), ", "))
      ->type_name("NAME");
  command
      .add_option("--model", arguments.model,
                  "A YAML file, or one of " + absl::StrJoin(sim::ModelNames(), ", "))
      ->type_name("NAME");
  command
      .add_option("--tiers", arguments.tiers,
                  "Tiers that may hold cache, with commas between (default: all of the machine)")
      ->delimiter(',')
      ->type_name("NAME,...");
  AddTextOption(command, "--hbm", arguments.hbm, kSizeTextBytesMax,
                "Capacity of tier hbm, the weights included")
      ->type_name("SIZE");
  AddTextOption(command, "--dram", arguments.dram, kSizeTextBytesMax, "Capacity of tier dram")
      ->type_name("SIZE");
  command
      .add_option("--set", arguments.overrides,
                  "Another value for a field of the machine (link.pcie=50GB/s) or the model "
                  "(model.weight_bytes=20GB);\nmay be given several times")
      ->take_all()
      ->allow_extra_args(false)
      ->type_name("FIELD=VALUE");
  AddCountOption(command, "--requests", arguments.requests, 1, sim::kRequestsMax,
                 "The first so many requests, or steps of an attention trace");
  AddCountOption(command, "--sessions", arguments.sessions, 1, 65'536,
                 "Sessions that run at a time, of a trace of sessions");
  AddCountOption(command, "--block-tokens", arguments.block_tokens, 1, sim::kBlockTokensMax,
                 "Tokens of a block, of JSONL; other traces say it themselves");
  command
      .add_option("--phase", arguments.phase,
                  "Of attention traces, what runs one after another: step or layer (default step)")
      ->check(CLI::IsMember({"step", "layer"}))
      ->type_name("PHASE");
  command
      .add_option("--mode", arguments.mode,
                  "Of attention traces, how the GPU gets at other memory: in_place, stream, or "
                  "strict, where blocks are "
                  "copied before their\nlayer starts (default: as the machine says)")
      ->check(CLI::IsMember({"in_place", "stream", "strict"}))
      ->type_name("MODE");
  AddSizeOption(command, "--staging", arguments.staging_bytes, 1, sim::kCapacityBytesMax,
                "Of stream, in simulations: what the GPU's own memory keeps for staging buffers");
  AddCountOption(command, "--seed", arguments.seed, 0, ~uint64_t{0},
                 "Of the order of sessions, and of the search");
}

absl::StatusOr<Machinery> LoadMachinery(const ProblemArguments& arguments) {
  Machinery machinery;
  KVTIER_ASSIGN_OR_RETURN(machinery.machine, sim::ReadMachine(arguments.machine));
  KVTIER_ASSIGN_OR_RETURN(machinery.model, sim::ReadModel(arguments.model));
  for (const std::string& name : arguments.tiers) {
    if (!name.empty()) continue;
    return UsageError(absl::StrCat(
        "--tiers has an empty name; ", arguments.machine, " has ",
        absl::StrJoin(
            machinery.machine.tiers, ", ",
            [](std::string* out, const sim::MachineTier& tier) { out->append(tier.name); }),
        ", and without --tiers all of them may hold cache"));
  }
  // In full, as the short name of a capacity is another name for the same field.
  std::vector<std::pair<std::string, std::string>> fields;  // and what sets them
  std::vector<std::string> overrides;
  const auto add = [&](const std::string& option, const std::string& set) -> absl::Status {
    std::string field = set.substr(0, set.find('='));
    if (sim::FindTier(machinery.machine, field)) field = absl::StrCat("tier.", field, ".capacity");
    for (const auto& [before, by] : fields) {
      if (before == field) return UsageError(absl::StrCat(option, " sets what ", by, " sets"));
    }
    fields.emplace_back(field, option);
    overrides.push_back(set);
    return absl::OkStatus();
  };
  for (const std::string& set : arguments.overrides)
    KVTIER_RETURN_IF_ERROR(add(absl::StrCat("--set ", set.substr(0, 80)), set));
  for (const auto& [tier, size] : {std::pair{"hbm", arguments.hbm}, {"dram", arguments.dram}}) {
    if (size.empty()) continue;
    if (!sim::FindTier(machinery.machine, tier))
      return UsageError(absl::StrCat("--", tier, ": ", arguments.machine, " has no tier ", tier));
    KVTIER_RETURN_IF_ERROR(
        add(absl::StrCat("--", tier), absl::StrCat("tier.", tier, ".capacity=", size)));
  }
  const absl::Status status = sim::ApplyOverrides(overrides, machinery.machine, machinery.model);
  if (!status.ok()) return UsageError(std::string(status.message()));
  return machinery;
}

absl::StatusOr<sim::AnyTrace> LoadTrace(const ProblemArguments& arguments) {
  KVTIER_ASSIGN_OR_RETURN(
      sim::AnyTrace trace,
      sim::ReadAnyTrace(arguments.trace, static_cast<uint32_t>(arguments.block_tokens),
                        arguments.requests));
  const auto* const requests = std::get_if<sim::Trace>(&trace);
  if (arguments.sessions > 1 && (requests == nullptr || requests->sessions.empty())) {
    return absl::InvalidArgumentError(
        absl::StrCat("--sessions is for traces of sessions, and ", arguments.trace, " has none"));
  }
  const auto* const attention = std::get_if<sim::AttentionTrace>(&trace);
  if (attention != nullptr && arguments.block_tokens != kBlockTokens &&
      arguments.block_tokens != attention->geometry.block_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("--block-tokens is ", arguments.block_tokens,
                                                   ", and blocks of ", arguments.trace, " have ",
                                                   attention->geometry.block_tokens, " tokens"));
  }
  return trace;
}

sim::ProblemOptions ProblemOptionsOf(const ProblemArguments& arguments) {
  sim::ProblemOptions options{.tier_names = arguments.tiers,
                              .requests_max = arguments.requests,
                              .sessions = static_cast<uint32_t>(arguments.sessions),
                              .seed = arguments.seed,
                              .staging_bytes = arguments.staging_bytes};
  if (arguments.phase == "layer") options.phase = sim::AttentionPhase::kLayer;
  if (arguments.mode == "in_place") options.mode = sim::AttentionMode::kInPlace;
  if (arguments.mode == "stream") options.mode = sim::AttentionMode::kStream;
  if (arguments.mode == "strict") options.mode = sim::AttentionMode::kStrict;
  return options;
}

std::string FirstProblemOption(const CLI::App& command) {
  for (const char* const name : kProblemOptions) {
    if (command.count(name) > 0) return name;
  }
  return {};
}

void AppendProblem(const ProblemArguments& arguments, const sim::ProblemTerms& terms, Json& json) {
  json["trace"] = arguments.trace;
  json["machine"] = arguments.machine;
  json["model"] = arguments.model;
  json["tiers"] = Json::array();
  for (const bound::Tier& tier : terms.tiers)
    json["tiers"].push_back({{"name", tier.name}, {"capacity_bytes", tier.capacity_bytes}});
  json["gpu_memory_bytes"] = terms.gpu_memory_bytes ? Json(*terms.gpu_memory_bytes) : Json(nullptr);
  json["inclusive"] = terms.inclusive;
  json["overrides"] = absl::StrJoin(arguments.overrides, " ");
  json["mode"] = terms.mode;
  json["phase"] = terms.phase;
  const auto given = [](uint64_t number, uint64_t none) {
    return number == none ? Json(nullptr) : Json(number);
  };
  json["requests"] = given(arguments.requests, sim::kRequestsMax);
  json["sessions"] = arguments.sessions;
  json["block_tokens"] = given(terms.block_tokens, 0);
  json["staging_bytes"] = given(arguments.staging_bytes, 0);
  json["seed"] = arguments.seed;
}

}  // namespace kvtier::cli
