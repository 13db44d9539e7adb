// `kvtier trace info`.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/option_values.h"
#include "client/cli/trace_commands.h"
#include "sim/placement_problem.h"
#include "tiering/base/status_macros.h"

namespace kvtier::cli {
namespace {

struct InfoOptions {
  std::string trace;
  uint64_t block_tokens = 512;
  bool json = false;
};

Json InfoOf(const sim::Trace& trace) {
  Json info;
  info["kind"] = trace.sessions.empty() ? "requests" : "sessions";
  info["requests"] = trace.requests.size();
  info["sessions"] = trace.sessions.size();
  info["block_tokens"] = trace.block_tokens;
  uint64_t blocks = 0, tokens = 0;
  double first_s = trace.requests.front().at_s, last_s = first_s;
  absl::flat_hash_set<std::pair<uint64_t, uint64_t>> names;
  for (const sim::TraceRequest& request : trace.requests) {
    const auto ids = trace.IdsOf(request);
    for (uint32_t i = 0; i < request.block_count; ++i) {
      const sim::BlockName name = sim::NameOf(request, i, ids[i]);
      names.insert({name.scope, name.id});
    }
    blocks += request.block_count;
    tokens += request.tokens;
    first_s = std::min(first_s, request.at_s);
    last_s = std::max(last_s, request.at_s);
  }
  info["blocks"] = blocks;
  info["different_blocks"] = names.size();
  info["tokens"] = tokens;
  info["trace_seconds"] = last_s - first_s;
  return info;
}

Json InfoOf(const sim::AttentionTrace& trace) {
  const sim::AttentionGeometry& geometry = trace.geometry;
  Json info;
  info["kind"] = "attention";
  info["model"] = geometry.model;
  info["provenance"] = geometry.provenance;
  info["planes"] = geometry.planes;
  info["block_tokens"] = geometry.block_tokens;
  info["prompt_tokens"] = geometry.prompt_tokens;
  info["steps"] = geometry.steps;
  info["blocks"] = uint64_t{geometry.planes} * geometry.BlocksAt(geometry.steps);
  info["accesses"] = trace.blocks.size();
  // Of what is read in a step, the part that the plane read in the step before as well.
  uint64_t again = 0, later = 0;
  for (uint32_t step = 1; step < geometry.steps; ++step) {
    for (uint32_t plane = 0; plane < geometry.planes; ++plane) {
      const auto before = trace.BlocksOf(step - 1, plane);
      const auto now = trace.BlocksOf(step, plane);
      later += now.size();
      again += static_cast<uint64_t>(std::count_if(now.begin(), now.end(), [&](uint32_t block) {
        return std::binary_search(before.begin(), before.end(), block);
      }));
    }
  }
  info["read_again"] = later == 0 ? 0.0 : static_cast<double>(again) / static_cast<double>(later);
  return info;
}

absl::Status RunInfo(const InfoOptions& options) {
  KVTIER_ASSIGN_OR_RETURN(
      const sim::AnyTrace trace,
      sim::ReadAnyTrace(options.trace, static_cast<uint32_t>(options.block_tokens),
                        sim::kRequestsMax));
  const Json info = std::visit([](const auto& one) { return InfoOf(one); }, trace);
  if (options.json) {
    PrintJson(info);
    return absl::OkStatus();
  }
  for (const auto& [name, value] : info.items()) {
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    std::printf("%-18s%s\n", name.c_str(), text.c_str());
  }
  return absl::OkStatus();
}

}  // namespace

void AddTraceInfoCommand(CLI::App& trace, int& exit_code) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App* command = trace.add_subcommand("info", "What is in a trace, of any kind");
  command->add_option("FILE", options->trace, "The trace, or a directory of sessions")->required();
  AddCountOption(*command, "--block-tokens", options->block_tokens, 1, sim::kBlockTokensMax,
                 "Tokens of a block, of JSONL; other traces say it themselves");
  command->add_flag("--json", options->json, "Print JSON (docs/cli.md lists the fields)");
  SetAction(*command, exit_code, [options] { return RunInfo(*options); });
}

}  // namespace kvtier::cli
