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
#include "client/cli/trace_commands.h"
#include "sim/trace_generator.h"
#include "tiering/base/status_macros.h"

namespace kvtier::cli {
namespace {

constexpr size_t kWriteBytes = 1 << 20;
constexpr uint64_t kAttentionBlockTokens = 16;

struct GenerateOptions {
  std::string kind;
  std::string output = "-";
  uint64_t requests = 1000;
  uint64_t seed = 0;
  uint64_t block_tokens = 512;
  // What the kind has where the option was not given.
  std::vector<std::function<void(sim::WorkloadOptions&)>> changes;
  std::vector<std::string> names;  // of the options of those changes
  AttentionArguments attention;
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
  options.names.push_back(name);
  options.changes.push_back([value, option, field](sim::WorkloadOptions& workload) {
    if (option->count() > 0) workload.*field = static_cast<Number>(*value);
  });
}

// An option of another kind of trace would have no effect.
absl::Status CheckKind(const CLI::App& command, const GenerateOptions& options) {
  std::string other;
  if (options.kind == "attention") {
    for (const std::string& name : options.names) {
      if (command.count(name) > 0) other = name;
    }
    if (command.count("--requests") > 0) other = "--requests";
  } else {
    other = FirstAttentionOption(command);
  }
  return other.empty() ? absl::OkStatus()
                       : UsageError(other + " is not for --kind " + options.kind);
}

void AddGenerateCommand(CLI::App& trace, int& exit_code) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = trace.add_subcommand(
      "generate", "Makes up a trace: of requests in the Mooncake format, or of attention");
  using Workload = sim::WorkloadOptions;
  command
      ->add_option("--kind", options->kind,
                   "chat: conversations, each behind one of a few system prompts; rag: questions "
                   "about documents, some\nasked about often; agent: long sessions of short steps "
                   "behind one of two long sets of tools;\nattention: what sparse attention reads, "
                   "step by step")
      ->required()
      ->check(CLI::IsMember({"chat", "rag", "agent", "attention"}))
      ->type_name("KIND");
  AddCountOption(*command, "--requests", options->requests, 1, 10'000'000, "Lines");
  AddCountOption(*command, "--seed", options->seed, 0, ~uint64_t{0},
                 "The same options and seed give the same bytes");
  command->add_option("-o,--output", options->output, "The file; - for the standard output")
      ->type_name("FILE");
  AddCountOption(*command, "--block-tokens", options->block_tokens, 16, 65'536,
                 "Tokens of a block; of attention 16 where it is not given");
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
  AddAttentionOptions(*command, options->attention);
  command->footer(
      "Three defaults are those of chat, rag and agent. A line is {\"timestamp\": ms, "
      "\"input_length\": tokens,\n"
      "\"output_length\": tokens, \"hash_ids\": [...]}: the blocks of the prompt in order; prompts "
      "with equal ids share\n"
      "them and all before. `kvtier trace info` says what is in an attention trace, which is "
      "binary.\n"
      "Example: kvtier trace generate --kind rag --requests 5000 --prefixes 200 -o rag.jsonl\n"
      "         kvtier trace generate --kind attention --steps 200 -o steps.kvattn");
  SetAction(*command, exit_code, [options, command]() -> absl::Status {
    KVTIER_RETURN_IF_ERROR(CheckKind(*command, *options));
    if (options->kind != "attention") return RunGenerate(*options);
    const uint64_t block_tokens =
        command->count("--block-tokens") > 0 ? options->block_tokens : kAttentionBlockTokens;
    return GenerateAttention(options->attention, static_cast<uint32_t>(block_tokens), options->seed,
                             options->output);
  });
}

}  // namespace

void AddTraceCommand(CLI::App& app, int& exit_code) {
  CLI::App* trace = app.add_subcommand("trace", "Makes up traces, and says what is in them");
  trace->require_subcommand(1);
  AddGenerateCommand(*trace, exit_code);
  AddTraceInfoCommand(*trace, exit_code);
}

}  // namespace kvtier::cli
