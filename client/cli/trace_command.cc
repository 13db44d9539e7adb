// `kvtier trace generate`.
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/cli/command.h"
#include "client/cli/interrupt.h"
#include "client/cli/option_values.h"
#include "client/cli/output_file.h"
#include "sim/trace_generator.h"

namespace kvtier::cli {
namespace {

constexpr size_t kWriteBytes = 1 << 20;

struct GenerateOptions {
  std::string kind;
  std::string output = "-";
  uint64_t requests = 1000;
  uint64_t seed = 0;
  uint64_t block_tokens = 512;
  // What the kind has where the option was not given.
  std::vector<std::function<void(sim::WorkloadOptions&)>> changes;
};

sim::WorkloadKind KindOf(const std::string& name) {
  if (name == "chat") return sim::WorkloadKind::kChat;
  return name == "rag" ? sim::WorkloadKind::kRag : sim::WorkloadKind::kAgent;
}

absl::Status RunGenerate(const GenerateOptions& options) {
  sim::WorkloadOptions workload = sim::DefaultWorkload(KindOf(options.kind));
  workload.requests = options.requests;
  workload.seed = options.seed;
  workload.block_tokens = static_cast<uint32_t>(options.block_tokens);
  for (const auto& change : options.changes) change(workload);
  CatchSignals();  // from here on there may be a temporary file
  auto output = OutputFile::Create(options.output);
  if (!output.ok()) return output.status();
  std::string buffer;
  absl::Status status = sim::GenerateTrace(workload, [&](std::string_view line) -> absl::Status {
    buffer.append(line);
    if (buffer.size() < kWriteBytes) return CheckInterrupted();
    const std::string full = std::exchange(buffer, {});
    return (*output)->Write(full.data(), full.size());
  });
  if (status.ok()) status = (*output)->Write(buffer.data(), buffer.size());
  return status.ok() ? (*output)->Commit() : status;
}

// A number that replaces the kind's own where it is given.
template <typename Number>
void AddChange(CLI::App& command, GenerateOptions& options, const std::string& name,
               Number sim::WorkloadOptions::*field, uint64_t min, uint64_t max,
               const std::string& description) {
  std::string defaults;
  for (const char* kind : {"chat", "rag", "agent"}) {
    const sim::WorkloadOptions workload = sim::DefaultWorkload(KindOf(kind));
    defaults += (defaults.empty() ? "" : ", ") + std::to_string(workload.*field);
  }
  auto value = std::make_shared<uint64_t>(0);
  CLI::Option* option = AddCountOption(command, name, *value, min, max, description);
  option->description(description + ", " + std::to_string(min) + " to " + std::to_string(max) +
                      " (default " + defaults + ")");
  options.changes.push_back([value, option, field](sim::WorkloadOptions& workload) {
    if (option->count() > 0) workload.*field = static_cast<Number>(*value);
  });
}

void AddGenerateCommand(CLI::App& trace, int& exit_code) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = trace.add_subcommand("generate", "Makes up a trace in the Mooncake format");
  using Workload = sim::WorkloadOptions;
  command
      ->add_option("--kind", options->kind,
                   "chat: conversations, each behind one of a few system prompts; rag: questions "
                   "about documents, some\nasked about often; agent: long sessions of short steps "
                   "behind one of two long sets of tools")
      ->required()
      ->check(CLI::IsMember({"chat", "rag", "agent"}))
      ->type_name("KIND");
  AddCountOption(*command, "--requests", options->requests, 1, 10'000'000, "Lines");
  AddCountOption(*command, "--seed", options->seed, 0, ~uint64_t{0},
                 "The same options and seed give the same bytes");
  command->add_option("-o,--output", options->output, "The file; - for the standard output")
      ->type_name("FILE");
  AddCountOption(*command, "--block-tokens", options->block_tokens, 16, 65'536,
                 "Tokens of a block");
  AddChange(*command, *options, "--concurrency", &Workload::concurrency, 1, 10'000,
            "Conversations at a time");
  AddChange(*command, *options, "--prefixes", &Workload::prefixes, 1, 10'000,
            "System prompts, documents or sets of tools");
  AddChange(*command, *options, "--common-tokens", &Workload::common_tokens, 0, 100'000,
            "Tokens that every prompt begins with");
  AddChange(*command, *options, "--prefix-tokens", &Workload::prefix_tokens, 0, 200'000,
            "Tokens of each prefix, behind those");
  AddChange(*command, *options, "--turns", &Workload::turns_mean, 1, 10'000,
            "Requests of a conversation, on average; a rag question has one");
  AddChange(*command, *options, "--input-tokens", &Workload::input_tokens_mean, 1, 100'000,
            "New tokens of a request, on average");
  AddChange(*command, *options, "--output-tokens", &Workload::output_tokens_mean, 1, 100'000,
            "Tokens of an answer, on average; the next prompt has them in it");
  AddChange(*command, *options, "--pause-ms", &Workload::pause_ms_mean, 1, 86'400'000,
            "Milliseconds between requests of a conversation, on average");
  AddChange(*command, *options, "--context-tokens", &Workload::context_tokens_max, 1, 1'000'000,
            "A conversation whose prompt is that long ends");
  command->footer(
      "Three defaults are those of chat, rag and agent. A line is {\"timestamp\": ms, "
      "\"input_length\": tokens,\n"
      "\"output_length\": tokens, \"hash_ids\": [...]}: the blocks of the prompt in order; prompts "
      "with equal ids share\n"
      "them and all before.\n"
      "Example: kvtier trace generate --kind rag --requests 5000 --prefixes 200 -o rag.jsonl");
  SetAction(*command, exit_code, [options] { return RunGenerate(*options); });
}

}  // namespace

void AddTraceCommand(CLI::App& app, int& exit_code) {
  CLI::App* trace = app.add_subcommand("trace", "Makes traces for `kvtier replay`");
  trace->require_subcommand(1);
  AddGenerateCommand(*trace, exit_code);
}

}  // namespace kvtier::cli
